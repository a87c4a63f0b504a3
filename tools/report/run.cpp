#include "run.hpp"

#include <algorithm>
#include <map>

#include "base/parse_json.hpp"
#include "json_node.hpp"

namespace gradwire::tools::report {
namespace {

constexpr std::uint64_t kVersion = 1;

RunFacts read_facts(const Node& from) {
  RunFacts facts;
  facts.name = from.at("name").text();
  facts.compressor = from.at("compressor").text();
  facts.policy = from.at("policy").text();
  facts.transport = from.at("transport").text();
  const std::uint64_t ranks = from.at("ranks").whole();
  const std::uint64_t rank = from.at("rank").whole();
  require(ranks >= 1 && ranks <= 1'000'000'000, "\"{}\" is {}; expected 1 or more", from.at("ranks").place(), ranks);
  require(rank < ranks, "\"{}\" is {}; there are {} ranks", from.at("rank").place(), rank, ranks);
  facts.ranks = static_cast<int>(ranks);
  facts.rank = static_cast<int>(rank);
  from.at("more").each([&](const Node& each) {
    facts.more.push_back({each.at("name").text(), each.at("value").text()});
  });
  return facts;
}

Totals read_totals(const Node& from) {
  return {.steps = from.at("steps").whole(),
          .wire_bytes = from.at("wire_bytes").amount(),
          .dense_bytes = from.at("dense_bytes").amount(),
          .exposed_us = from.at("exposed_us").amount(),
          .skipped_steps = from.at("skipped_steps").whole(),
          .dense_fallbacks = from.at("dense_fallbacks").whole()};
}

std::vector<ParamReport> read_params(const Node& from) {
  std::vector<ParamReport> params;
  from.each([&](const Node& each) {
    params.push_back({.name = each.at("name").text(),
                      .compressor = each.at("compressor").text(),
                      .rule = each.at("rule").text(),
                      .count = each.at("count").whole(),
                      .residual_norm = each.at("residual_norm").amount()});
  });
  return params;
}

std::vector<StepMeans> read_steps(const Node& from) {
  std::vector<StepMeans> steps(from.at("first").size());
  const auto column = [&](const char* key) {
    const Node node = from.at(key);
    require(node.size() == steps.size(), "\"{}\" has {} items, \"{}\" has {}", node.place(), node.size(),
            from.at("first").place(), steps.size());
    return node;
  };
  const auto amounts = [&](const char* key, double StepMeans::*field) {
    const Node values = column(key);
    for (std::size_t i = 0; i < steps.size(); ++i) steps[i].*field = values.at(i).amount();
  };
  const Node first = column("first");
  const Node count = column("count");
  const Node skipped = column("skipped");
  for (std::size_t i = 0; i < steps.size(); ++i) {
    steps[i].first = first.at(i).whole();
    steps[i].count = count.at(i).whole();
    steps[i].skipped = skipped.at(i).whole();
    require(steps[i].count > 0, "\"{}\" is 0; expected 1 or more", count.at(i).place());
    require(i == 0 || steps[i].first >= steps[i - 1].first + steps[i - 1].count,
            "\"{}\" is {}, but the steps before it go to {}", first.at(i).place(), steps[i].first,
            i == 0 ? 0 : steps[i - 1].first + steps[i - 1].count - 1);
  }
  amounts("wire_bytes", &StepMeans::wire_bytes);
  amounts("dense_bytes", &StepMeans::dense_bytes);
  amounts("exposed_us", &StepMeans::exposed_us);
  amounts("encode_us", &StepMeans::encode_us);
  amounts("wire_us", &StepMeans::wire_us);
  amounts("decode_us", &StepMeans::decode_us);
  return steps;
}

Layer read_layer(const PlanLayer& choice, const Node& from, const std::map<std::string_view, std::size_t>& counts) {
  Layer layer;
  layer.choice = choice;
  if (from.has("count")) {
    layer.count = from.at("count").whole();
  } else if (const auto found = counts.find(choice.name); found != counts.end()) {
    layer.count = found->second;
  }
  if (from.has("shape")) from.at("shape").each([&](const Node& each) { layer.shape.push_back(each.whole()); });
  if (from.has("norm")) layer.norm = from.at("norm").amount();
  if (from.has("reference")) {
    const Node reference = from.at("reference");
    layer.reference = PlanLayer{choice.name, reference.at("spec").text(), reference.at("bytes").whole(),
                                reference.at("error").amount()};
  }
  return layer;
}

void sum_references(LoggedPlan& logged) {
  double bytes = 0;
  double error = 0;
  double squared_error = 0;
  for (const Layer& layer : logged.layers) {
    if (!layer.reference) return;
    bytes += static_cast<double>(layer.reference->bytes);
    error += layer.reference->error;
    squared_error += layer.reference->error * layer.reference->error;
  }
  logged.reference_bytes = bytes;
  logged.reference_error = error;
  logged.reference_squared_error = squared_error;
}

std::vector<LoggedPlan> read_plans(const Node& from, const std::vector<ParamReport>& params) {
  std::map<std::string_view, std::size_t> counts;  // 0, not known, where several parameters have a name
  for (const ParamReport& param : params) {
    const auto [found, is_new] = counts.emplace(param.name, param.count);
    if (!is_new) found->second = 0;
  }
  std::vector<LoggedPlan> plans;
  from.each([&](const Node& each) {
    LoggedPlan logged;
    logged.step = each.at("step").whole();
    require(plans.empty() || logged.step > plans.back().step, "\"{}\" is {}, which is not after {}",
            each.at("step").place(), logged.step, plans.empty() ? 0 : plans.back().step);
    try {
      logged.plan = plan_from_json(each.json().dump());
    } catch (const Error& error) {
      fail(error.code(), "\"{}\": {}", each.place(), error.what());
    }
    const Node layers = each.at("layers");
    for (std::size_t i = 0; i < layers.size(); ++i)
      logged.layers.push_back(read_layer(logged.plan.layers[i], layers.at(i), counts));
    sum_references(logged);
    const auto is_known = [](const Layer& layer) { return layer.choice.bytes > 0; };
    if (std::all_of(logged.layers.begin(), logged.layers.end(), is_known)) {
      logged.bytes = static_cast<double>(logged.plan.bytes);
      logged.error = logged.plan.error;
      logged.squared_error = logged.plan.squared_error;
    }
    plans.push_back(std::move(logged));
  });
  return plans;
}

Timeline read_timeline(const Node& from, std::size_t params) {
  Timeline timeline{.step = from.at("step").whole(), .exposed_us = from.at("exposed_us").amount(), .buckets = {}};
  from.at("buckets").each([&](const Node& each) {
    BucketReport bucket{.params = {},
                        .launch_us = each.at("launch_us").amount(),
                        .done_us = each.at("done_us").amount(),
                        .encode_us = each.at("encode_us").amount(),
                        .wire_us = each.at("wire_us").amount(),
                        .decode_us = each.at("decode_us").amount(),
                        .wire_bytes = each.at("wire_bytes").whole()};
    require(bucket.done_us >= bucket.launch_us, "\"{}\" is {}, before its launch at {}", each.at("done_us").place(),
            bucket.done_us, bucket.launch_us);
    each.at("params").each([&](const Node& index) {
      require(index.whole() < params, "\"{}\" is {}; there are {} parameters", index.place(), index.whole(), params);
      bucket.params.push_back(index.whole());
    });
    timeline.buckets.push_back(std::move(bucket));
  });
  return timeline;
}

Curve read_curve(const Node& from) {
  Curve curve{from.at("name").text(), {}};
  from.at("points").each([&](const Node& each) {
    const Node value = each.at(std::size_t{1});
    curve.points.push_back({each.at(std::size_t{0}).whole(), value.is_null() ? kNone : value.real()});
    const std::size_t count = curve.points.size();
    require(count == 1 || curve.points[count - 1].step > curve.points[count - 2].step,
            "\"{}\": its step is {}, which is not after the one before", each.place(), curve.points.back().step);
  });
  return curve;
}

}  // namespace

double Layer::bits_per_element() const {
  return count > 0 && choice.bytes > 0 ? 8 * static_cast<double>(choice.bytes) / static_cast<double>(count) : kNone;
}

std::uint64_t Run::first_step() const {
  std::uint64_t first = steps.empty() ? 1 : steps.front().first;
  if (!plans.empty()) first = std::min(first, plans.front().step);
  for (const Curve& curve : curves)
    if (!curve.points.empty()) first = std::min(first, curve.points.front().step);
  return first;
}

std::uint64_t Run::last_step() const {
  std::uint64_t last = first_step();
  if (!steps.empty()) last = std::max(last, steps.back().first + steps.back().count - 1);
  if (!plans.empty()) last = std::max(last, plans.back().step);
  for (const Curve& curve : curves)
    if (!curve.points.empty()) last = std::max(last, curve.points.back().step);
  return last;
}

Run read_run(std::string_view text) {
  const auto json = parse_json<nlohmann::json>(text);
  const Node from(json, "");
  require(from.has("format") && from.at("format").text() == "gradwire-run",
          "\"format\" is not \"gradwire-run\": this is no log of a run");
  require(from.at("version").whole() == kVersion, "\"version\" is {}; this gradwire reads version {}",
          from.at("version").whole(), kVersion);
  Run run;
  run.gradwire = from.at("gradwire").text();
  run.facts = read_facts(from.at("run"));
  run.totals = read_totals(from.at("totals"));
  run.params = read_params(from.at("parameters"));
  run.steps = read_steps(from.at("steps"));
  run.plans = read_plans(from.at("plans"), run.params);
  run.plans_left_out = from.at("plans_left_out").whole();
  from.at("events").each([&](const Node& each) {
    run.events.push_back({each.at("step").whole(), each.at("outcome").text(), each.at("detail").text()});
  });
  run.events_left_out = from.at("events_left_out").whole();
  from.at("timelines").each([&](const Node& each) { run.timelines.push_back(read_timeline(each, run.params.size())); });
  from.at("curves").each([&](const Node& each) { run.curves.push_back(read_curve(each)); });
  return run;
}

}  // namespace gradwire::tools::report
