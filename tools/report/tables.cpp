#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "markup.hpp"
#include "sections.hpp"
#include "specs.hpp"

namespace gradwire::tools::report {
namespace {

std::string head(std::initializer_list<const char*> columns, std::size_t left) {
  std::string out = "<div class=\"scroll\"><table><thead><tr>";
  std::size_t i = 0;
  for (const char* const column : columns)
    out += fmt::format("<th scope=\"col\"{}>{}</th>", i++ < left ? "" : " class=\"n\"", escape(column));
  return out + "</tr></thead>\n<tbody>\n";
}

const char* const kFoot = "</tbody></table></div>\n";

std::string shape_text(const Layer& layer) {
  std::string out;
  for (const std::size_t extent : layer.shape) out += fmt::format("{}{}", out.empty() ? "" : " × ", extent);
  return out.empty() ? "-" : out;
}

std::string step_text(std::uint64_t step) { return whole_text(static_cast<double>(step)); }

/// How far from the best plan there could be, where the policy has proven something.
std::string gap_text(const LoggedPlan& plan) {
  const std::optional<double> share = gap(plan.plan);
  return share && !std::isnan(plan.bytes) ? fmt::format("{:.4f} %", 100 * *share) : "-";
}

/// In the measure that it limits.
std::string limit_text(const Plan& plan) {
  switch (plan.limit) {
    case PlanLimit::none: return "-";
    case PlanLimit::bytes: return bytes_text(plan.budget);
    case PlanLimit::time: return time_text(plan.budget * 1000);
    case PlanLimit::error: return number_text(plan.budget) + " (sum)";
    case PlanLimit::squared_error: return number_text(std::sqrt(plan.budget)) + " (root)";
  }
  return "-";
}

std::string tile(std::string_view value, std::string_view what) {
  return fmt::format("<div class=\"tile\"><dd>{}</dd><dt>{}</dt></div>\n", escape(value), escape(what));
}

std::string tiles(const Run& run) {
  std::string out = "<dl class=\"tiles\">\n";
  const Totals& totals = run.totals;
  const auto steps = static_cast<double>(totals.steps);
  out += tile(whole_text(steps), "steps");
  out += tile(steps > 0 ? bytes_text(totals.wire_bytes / steps) : "-", "sent a step, by this rank");
  out +=
      tile(totals.wire_bytes > 0 ? times_text(totals.dense_bytes / totals.wire_bytes) : "-", "fewer bytes than dense");
  if (!run.plans.empty()) {
    const LoggedPlan& last = run.plans.back();
    out += tile(percent_text(last.bytes, last.reference_bytes), "bytes of the last plan, of the uniform setting's");
    out += tile(percent_text(std::sqrt(last.squared_error), std::sqrt(last.reference_squared_error)),
                "its error, of the uniform setting's");
  }
  out += tile(steps > 0 ? time_text(totals.exposed_us / steps) : "-", "waited a step (exposed)");
  for (const Curve& curve : run.curves)
    if (!curve.points.empty()) out += tile(number_text(curve.points.back().value), "last " + curve.name);
  return out + "</dl>\n";
}

}  // namespace

std::string heading(const Run& run) {
  const RunFacts& facts = run.facts;
  std::string out = fmt::format("<h1>{}</h1>\n<ul class=\"facts\">\n", escape(facts.name.empty() ? "Run" : facts.name));
  const auto fact = [&out](std::string_view name, std::string_view value) {
    out += fmt::format("<li>{} <b>{}</b></li>\n", escape(name), escape(value.empty() ? "-" : value));
  };
  fact("uniform setting", facts.compressor);
  fact("policy", facts.policy);
  fact("ranks", fmt::format("{}", facts.ranks));
  fact("transport", facts.transport);
  fact("logged by rank", fmt::format("{}", facts.rank));
  fact("plans", fmt::format("{}", run.plans.size() + run.plans_left_out));
  if (run.totals.skipped_steps > 0) fact("skipped steps", fmt::format("{}", run.totals.skipped_steps));
  if (run.totals.dense_fallbacks > 0) fact("buckets sent dense", fmt::format("{}", run.totals.dense_fallbacks));
  for (const RunFact& more : facts.more) fact(more.name, more.value);
  fact("gradwire", run.gradwire);
  return out + "</ul>\n" + tiles(run);
}

std::string events_table(const Run& run) {
  if (run.events.empty()) return nothing("No event was logged: planning was off, or RunLog::event() was not called.");
  std::string out = head({"step", "outcome", "why"}, 3);
  for (const Event& event : run.events)
    out += fmt::format("<tr>{}{}{}</tr>\n", cell(step_text(event.step)), cell(event.outcome), cell(event.detail));
  out += kFoot;
  if (run.events_left_out > 0)
    out +=
        fmt::format("<p class=\"note\">{} events between the first and the last ones were not kept in the log.</p>\n",
                    run.events_left_out);
  return out;
}

std::string plans_left_out_note(const Run& run) {
  if (run.plans_left_out == 0) return "";
  return fmt::format(
      "<p class=\"note\">{} plans between the first and the last ones were not kept in the log; their steps are drawn "
      "under the last plan before them.</p>\n",
      run.plans_left_out);
}

std::string plans_table(const Run& run) {
  if (run.plans.empty()) return nothing("No plan was logged.");
  std::string out = head({"from step", "policy", "bytes", "of uniform", "error (sum)", "error (root of squares)",
                          "of uniform", "limit", "gap", "solved in"},
                         2);
  for (const LoggedPlan& each : run.plans) {
    const Plan& plan = each.plan;
    const double error = std::sqrt(each.squared_error);
    const std::string limit = limit_text(plan);
    out += "<tr>" + cell(step_text(each.step)) + cell(plan.policy.empty() ? "by hand" : plan.policy) +
           number_cell(bytes_text(each.bytes)) + number_cell(percent_text(each.bytes, each.reference_bytes)) +
           number_cell(number_text(each.error)) + number_cell(number_text(error)) +
           number_cell(percent_text(error, std::sqrt(each.reference_squared_error))) + number_cell(limit) +
           number_cell(gap_text(each)) + number_cell(time_text(plan.solver_ms * 1000)) + "</tr>\n";
  }
  return out + kFoot + plans_left_out_note(run);
}

std::string layers_table(const Run& run) {
  if (run.plans.empty()) return nothing("No plan was logged.");
  const LoggedPlan& plan = run.plans.back();
  std::string out = head({"layer", "spec", "uniform", "shape", "elements", "bits an element", "bytes", "of all",
                          "of uniform", "error", "of the norm", "uniform's error"},
                         3);
  for (const Layer& layer : plan.layers) {
    const bool is_known = layer.choice.bytes > 0;
    const double bytes = is_known ? static_cast<double>(layer.choice.bytes) : kNone;
    const double error = is_known ? layer.choice.error : kNone;
    const double reference = layer.reference ? static_cast<double>(layer.reference->bytes) : kNone;
    out += fmt::format(
        "<tr><th scope=\"row\">{}</th><td class=\"spec-cell\"><span class=\"swatch f{}\"></span>"
        "<code>{}</code></td><td><code>{}</code></td>",
        escape(layer.choice.name), static_cast<int>(family_of(layer.choice.spec)), escape(layer.choice.spec),
        escape(layer.reference ? layer.reference->spec : "-"));
    out += number_cell(shape_text(layer)) +
           number_cell(layer.count > 0 ? whole_text(static_cast<double>(layer.count)) : "-") +
           number_cell(number_text(layer.bits_per_element())) + number_cell(bytes_text(bytes)) +
           number_cell(percent_text(bytes, plan.bytes)) + number_cell(percent_text(bytes, reference)) +
           number_cell(number_text(error)) + number_cell(percent_text(error, layer.norm)) +
           number_cell(number_text(layer.reference ? layer.reference->error : kNone)) + "</tr>\n";
  }
  return out + kFoot;
}

}  // namespace gradwire::tools::report
