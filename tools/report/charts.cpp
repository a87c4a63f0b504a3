#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "line_chart.hpp"
#include "markup.hpp"
#include "sections.hpp"

namespace gradwire::tools::report {
namespace {

constexpr double kFarApart = 5;  // values of a chart that need a logarithmic axis

LineChart over_steps(const Run& run) {
  LineChart chart;
  chart.first_step = static_cast<double>(run.first_step());
  chart.last_step = std::max(static_cast<double>(run.last_step()), chart.first_step + 1);
  for (const LoggedPlan& plan : run.plans) chart.marks.push_back(plan.step);
  return chart;
}

LineChart over_plans(const Run& run) {
  LineChart chart = over_steps(run);
  chart.stairs = true;
  chart.points = chart.marks;
  return chart;
}

void add(LineChart& chart, const char* name, const char* css, std::vector<double> values) {
  const bool is_there = std::any_of(values.begin(), values.end(), [](double value) { return !std::isnan(value); });
  if (is_there) chart.series.push_back({name, css, std::move(values)});
}

template <class Get>
std::vector<double> of_plans(const Run& run, Get get) {
  std::vector<double> values;
  for (const LoggedPlan& plan : run.plans) values.push_back(get(plan));
  return values;
}

std::vector<double> of_steps(const Run& run, double StepMeans::*field) {
  std::vector<double> values;
  for (const StepMeans& step : run.steps) values.push_back(step.*field);
  return values;
}

void choose_axis(LineChart& chart) {
  double low = std::numeric_limits<double>::infinity();
  double high = 0;
  for (const Series& series : chart.series) {
    for (const double value : series.values) {
      if (std::isnan(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  chart.logarithmic = low > 0 && high > kFarApart * low;
  if (chart.logarithmic) chart.unit += ", logarithmic";
}

/// In the measure that the last plan's policy limits: the sum of the layers' errors, or the root of summed squares.
std::string error_chart(const Run& run) {
  const bool plain = run.plans.back().plan.limit == PlanLimit::error;
  LineChart chart = over_plans(run);
  chart.title = "Error of the plans";
  chart.description = "what each plan loses, what the uniform setting would lose, and the limit";
  chart.unit = plain ? "sum of the layers' errors" : "error (root of summed squares)";
  chart.format = number_text;
  add(chart, "plan", "s1",
      of_plans(run, [plain](const LoggedPlan& each) { return plain ? each.error : std::sqrt(each.squared_error); }));
  add(chart, "uniform setting", "s2", of_plans(run, [plain](const LoggedPlan& each) {
        return plain ? each.reference_error : std::sqrt(each.reference_squared_error);
      }));
  add(chart, "limit", "limit", of_plans(run, [plain](const LoggedPlan& each) {
        if (plain) return each.plan.limit == PlanLimit::error ? each.plan.budget : kNone;
        return each.plan.limit == PlanLimit::squared_error ? std::sqrt(each.plan.budget) : kNone;
      }));
  choose_axis(chart);
  std::string out = draw(chart);
  const PlanLimit limit = run.plans.back().plan.limit;
  if (limit == PlanLimit::bytes || limit == PlanLimit::time)
    out += fmt::format("<p class=\"note\">The policy limits {}, so the error has no limit.</p>\n", name(limit));
  if (run.plans.back().plan.limit == PlanLimit::none) out += "<p class=\"note\">The policy keeps no limit.</p>\n";
  return out;
}

std::string plan_bytes_chart(const Run& run) {
  LineChart chart = over_plans(run);
  chart.title = "Bytes of the plans";
  chart.description = "what each plan costs, what the uniform setting would cost, and the limit";
  chart.unit = "bytes of a plan";
  chart.format = bytes_text;
  add(chart, "plan", "s1", of_plans(run, [](const LoggedPlan& each) { return each.bytes; }));
  add(chart, "uniform setting", "s2", of_plans(run, [](const LoggedPlan& each) { return each.reference_bytes; }));
  add(chart, "limit", "limit", of_plans(run, [](const LoggedPlan& each) {
        return each.plan.limit == PlanLimit::bytes ? each.plan.budget : kNone;
      }));
  choose_axis(chart);
  return draw(chart);
}

/// Where tables had times, for how long after backward the plans would still be sending.
std::string plan_time_chart(const Run& run) {
  LineChart chart = over_plans(run);
  chart.title = "Time of the plans";
  chart.description = "how long after backward each plan would still be sending, by the model of its policy";
  chart.unit = "time after backward, by the model";
  chart.format = time_text;
  add(chart, "plan", "s1", of_plans(run, [](const LoggedPlan& each) {
        return each.plan.exposed_ms > 0 ? each.plan.exposed_ms * 1000 : kNone;
      }));
  add(chart, "limit", "limit", of_plans(run, [](const LoggedPlan& each) {
        return each.plan.limit == PlanLimit::time ? each.plan.budget * 1000 : kNone;
      }));
  choose_axis(chart);
  return chart.series.empty() ? "" : draw(chart);
}

/// What a step, in the mean over those of a row, would have sent under the uniform setting: a byte of a table travels
/// 2(n-1)/n times (docs/report.md).
double uniform_bytes(const Run& run, const StepMeans& row) {
  if (run.plans.empty()) return kNone;
  const std::uint64_t end = row.first + row.count;
  double saved = 0;  // bytes of the tables, over the row
  for (std::size_t i = 0; i < run.plans.size(); ++i) {
    const LoggedPlan& plan = run.plans[i];
    const std::uint64_t from = std::max(row.first, plan.step);
    const std::uint64_t to = i + 1 < run.plans.size() ? std::min(end, run.plans[i + 1].step) : end;
    if (from < to) saved += static_cast<double>(to - from) * (plan.reference_bytes - plan.bytes);
  }
  const double ranks = run.facts.ranks;
  return row.wire_bytes + saved / static_cast<double>(row.count) * 2 * (ranks - 1) / ranks;
}

/// The steps of a chart's points, and how many each stands for.
void add_points(LineChart& chart, const Run& run) {
  for (const StepMeans& row : run.steps) {
    chart.points.push_back(row.first);
    chart.counts.push_back(row.count);
  }
}

std::string means_note(const Run& run) {
  std::uint64_t most = 1;
  for (const StepMeans& row : run.steps) most = std::max(most, row.count);
  if (most == 1) return "";
  return fmt::format("<p class=\"note\">Points are means of up to {} steps.</p>\n",
                     whole_text(static_cast<double>(most)));
}

const char* kNoSteps = "No steps were logged: RunLog::step() was not called.";

}  // namespace

std::string budget_charts(const Run& run) {
  if (run.plans.empty()) return nothing("No plan was logged, so there is no budget to keep.");
  const bool known =
      std::any_of(run.plans.begin(), run.plans.end(), [](const LoggedPlan& each) { return !std::isnan(each.bytes); });
  if (!known)
    return nothing("No plan was measured in full: plans that are made by hand say nothing of what they cost and lose.");
  return error_chart(run) + plan_bytes_chart(run) + plan_time_chart(run) + plans_left_out_note(run);
}

std::string bytes_chart(const Run& run) {
  if (run.steps.empty()) return nothing(kNoSteps);
  if (run.facts.ranks == 1 && run.totals.wire_bytes == 0) return nothing("On one rank nothing travels.");
  LineChart chart = over_steps(run);
  chart.title = "Bytes a step";
  chart.description = "what this rank sent, and what it would have sent otherwise";
  chart.unit = "bytes a step and rank";
  chart.format = bytes_text;
  add_points(chart, run);
  add(chart, "sent", "s1", of_steps(run, &StepMeans::wire_bytes));
  std::vector<double> uniform;
  for (const StepMeans& step : run.steps) uniform.push_back(uniform_bytes(run, step));
  add(chart, "uniform setting (reckoned)", "s2", std::move(uniform));
  add(chart, "dense", "dense", of_steps(run, &StepMeans::dense_bytes));
  choose_axis(chart);
  std::string out = draw(chart);
  const bool unknown = std::any_of(run.plans.begin(), run.plans.end(), [](const LoggedPlan& each) {
    return std::isnan(each.reference_bytes - each.bytes);
  });
  if (unknown)
    out +=
        "<p class=\"note\">What the uniform setting would have sent is not known everywhere: a plan has no table, or "
        "layers without bytes.</p>\n";
  return out + means_note(run) + plans_left_out_note(run);
}

std::string times_chart(const Run& run) {
  if (run.steps.empty()) return nothing(kNoSteps);
  LineChart chart = over_steps(run);
  chart.title = "Time a step";
  chart.description = "what the training loop waited, and what communication took";
  chart.unit = "time a step";
  chart.format = time_text;
  add_points(chart, run);
  add(chart, "waited for (exposed)", "s1", of_steps(run, &StepMeans::exposed_us));
  add(chart, "encode", "s2", of_steps(run, &StepMeans::encode_us));
  add(chart, "peers and network", "s3", of_steps(run, &StepMeans::wire_us));
  add(chart, "decode", "s4", of_steps(run, &StepMeans::decode_us));
  choose_axis(chart);
  return draw(chart) + means_note(run);
}

std::string curve_charts(const Run& run) {
  std::string out;
  for (const Curve& curve : run.curves) {
    LineChart chart = over_steps(run);
    chart.title = curve.name;
    chart.description = fmt::format("{} points", curve.points.size());
    chart.unit = curve.name;
    chart.format = number_text;
    chart.from_zero = false;
    std::vector<double> values;
    for (const CurvePoint& point : curve.points) {
      chart.points.push_back(point.step);
      values.push_back(point.value);
    }
    add(chart, curve.name.c_str(), "s1", std::move(values));
    out += chart.series.empty() ? nothing(fmt::format("{}: there is no finite value.", curve.name)) : draw(chart);
  }
  return out.empty() ? nothing("No curve was logged: RunLog::accuracy() was not called.") : out;
}

}  // namespace gradwire::tools::report
