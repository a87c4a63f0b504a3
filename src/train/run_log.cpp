#include "gradwire/run_log.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <map>
#include <set>
#include <string>

#include "base/atomic_file.hpp"
#include "base/fail.hpp"
#include "plan/figures.hpp"
#include "plan/json_object.hpp"
#include "plan/table.hpp"
#include "train/run_log_series.hpp"

#include "gradwire/version.hpp"

namespace gradwire {
namespace {

// What is kept at most; docs/run-format.md has these numbers too.
constexpr std::size_t kMaxPlans = 256;
constexpr std::size_t kMaxEvents = 1000;
constexpr std::size_t kMaxTimelines = 64;
constexpr std::size_t kMaxCurves = 16;
constexpr std::uint64_t kStepsAfterPlan = 3;  // whose timelines are kept

/// Plans and events name the steps done before them, reports the steps done: the first step is 0 to those, 1 to these,
/// and in the file.
std::uint64_t as_reported(std::uint64_t step) { return step + 1; }

struct PlanEntry {
  std::uint64_t step = 0;  ///< as given
  Json json;
};

struct Timeline {
  std::uint64_t step = 0;
  double exposed_us = 0;
  std::vector<BucketReport> buckets;
};

// Readers refuse a log with a figure that cannot be, so it is refused where it comes from.

void check_step(std::uint64_t step, std::uint64_t first, std::uint64_t last) {
  require(step >= first && step <= last, "run log: step {}; accepted: {}..{}", step, first, last);
}
constexpr std::uint64_t kMaxStep = kMaxBytes;  // what JSON's readers keep exact

/// Throws for names that are no UTF-8; `place` begins the message.
void check_names(const std::string& place, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) (void)dump(Json(name), place);
}

void check_count(const std::string& place, std::string_view what, std::uint64_t count) {
  require(count <= kMaxBytes, "{}: {} is {}; accepted: 0..{}", place, what, count, kMaxBytes);
}

void check_time(const std::string& place, std::string_view what, double us) {
  require(us >= 0 && us <= kMaxUs, "{}: {} is {}; accepted: 0..{:g}", place, what, us, kMaxUs);
}

template <class Report>  // StepReport or BucketReport
void check_work(const std::string& place, const Report& report) {
  check_time(place, "encode_us", report.encode_us);
  check_time(place, "wire_us", report.wire_us);
  check_time(place, "decode_us", report.decode_us);
  check_count(place, "wire_bytes", report.wire_bytes);
}

void check_buckets(const std::string& step, const std::vector<BucketReport>& buckets) {
  for (std::size_t b = 0; b < buckets.size(); ++b) {
    const BucketReport& bucket = buckets[b];
    const std::string place = fmt::format("{}: bucket {}", step, b);
    check_work(place, bucket);
    check_time(place, "launch_us", bucket.launch_us);
    check_time(place, "done_us", bucket.done_us);
    require(bucket.done_us >= bucket.launch_us, "{}: done_us is {}, before its launch at {}", place, bucket.done_us,
            bucket.launch_us);
  }
}

void check_report(const StepReport& report) {
  check_step(report.step, 1, kMaxStep);
  const std::string place = fmt::format("run log: step {}", report.step);
  check_work(place, report);
  check_time(place, "exposed_us", report.exposed_us);
  check_count(place, "dense_bytes", report.dense_bytes);
  check_count(place, "dense_fallbacks", report.dense_fallbacks);
  for (const ParamReport& param : report.params) {
    check_names(place, {param.name, param.compressor, param.rule});
    check_count(fmt::format("{}: parameter \"{}\"", place, param.name), "count", param.count);
    require(param.residual_norm >= 0 && std::isfinite(param.residual_norm),
            "{}: parameter \"{}\": residual_norm is {}; accepted: from 0 on", place, param.name, param.residual_norm);
  }
  check_buckets(place, report.buckets);
}

/// By its buckets: the highest index and one.
std::size_t params_named(const StepReport& report) {
  std::size_t named = 0;
  for (const BucketReport& bucket : report.buckets)
    for (const std::size_t index : bucket.params) named = std::max(named, index + 1);
  return named;
}

void check_table(const Table& table) {
  check(table);
  for (const TableLayer& layer : table.layers)
    require(layer.count <= kMaxBytes, "table: layer \"{}\": {} elements; accepted: 1..{}", layer.name, layer.count,
            kMaxBytes);
}

/// A hook without a policy may have layers of one name, or without any: a name for each, no name twice.
void tell_apart(std::vector<PlanLayer>& layers) {
  std::set<std::string> taken;
  for (const PlanLayer& layer : layers) taken.insert(layer.name);
  std::set<std::string> met{""};
  for (PlanLayer& layer : layers) {
    if (met.insert(layer.name).second) continue;
    const std::string base = layer.name.empty() ? "(no name)" : layer.name;
    layer.name = base;
    for (int i = 2; !taken.insert(layer.name).second; ++i) layer.name = fmt::format("{} ({})", base, i);
  }
}

/// As plan_from_json() reads it, and of each layer what the table knows. Throws for what that would not read.
Json describe(std::uint64_t step, Plan plan, const Table* table) {
  tell_apart(plan.layers);
  plan = complete(std::move(plan));
  std::map<std::string_view, const TableLayer*> rows;
  if (table != nullptr && !table->layers.empty()) {
    check_table(*table);
    for (const TableLayer& layer : table->layers) rows[layer.name] = &layer;
  }
  Json json{{"step", as_reported(step)}};
  json.update(Json::parse(to_json(plan)));
  for (Json& layer : json["layers"]) {
    const auto found = rows.find(layer["name"].get_ref<const std::string&>());
    if (found == rows.end()) continue;
    const TableLayer& row = *found->second;
    layer["count"] = row.count;
    if (!row.shape.empty()) layer["shape"] = row.shape;
    if (row.norm > 0) layer["norm"] = row.norm;
    const Candidate& reference = row.candidates[row.reference];
    check_names("table", {reference.spec});
    layer["reference"] = {{"spec", reference.spec}, {"bytes", reference.bytes}, {"error", reference.error}};
  }
  return json;
}

Json describe(const Timeline& timeline) {
  Json buckets = Json::array();
  for (const BucketReport& bucket : timeline.buckets) {
    buckets.push_back({{"params", bucket.params},
                       {"launch_us", bucket.launch_us},
                       {"done_us", bucket.done_us},
                       {"encode_us", bucket.encode_us},
                       {"wire_us", bucket.wire_us},
                       {"decode_us", bucket.decode_us},
                       {"wire_bytes", bucket.wire_bytes}});
  }
  return {{"step", timeline.step}, {"exposed_us", timeline.exposed_us}, {"buckets", std::move(buckets)}};
}

Json describe(const std::vector<StepGroup>& groups) {
  Json json{{"first", Json::array()}, {"count", Json::array()}};
  const auto means = [&](const char* key, double StepGroup::*sum) {
    Json& column = json[key] = Json::array();
    for (const StepGroup& group : groups) column.push_back(group.*sum / static_cast<double>(group.steps));
  };
  for (const StepGroup& group : groups) {
    json["first"].push_back(group.first);
    json["count"].push_back(group.steps);
  }
  means("wire_bytes", &StepGroup::wire_bytes);
  means("dense_bytes", &StepGroup::dense_bytes);
  means("exposed_us", &StepGroup::exposed_us);
  means("encode_us", &StepGroup::encode_us);
  means("wire_us", &StepGroup::wire_us);
  means("decode_us", &StepGroup::decode_us);
  Json& skipped = json["skipped"] = Json::array();
  for (const StepGroup& group : groups) skipped.push_back(group.skipped);
  return json;
}

Json describe(const Curve& curve) {
  Json points = Json::array();
  for (const CurvePoint& point : curve.points) points.push_back({point.step, point.value});
  if (curve.newest && (curve.points.empty() || curve.points.back().step != curve.newest->step))
    points.push_back({curve.newest->step, curve.newest->value});
  return points;
}

}  // namespace

struct RunLog::Impl {
  RunFacts facts;
  StepSeries steps;
  StepGroup totals;
  std::uint64_t last_step = 0;
  std::uint64_t dense_fallbacks = 0;
  std::vector<ParamReport> params;
  std::size_t params_named = 0;  ///< by buckets of timelines: their highest index and one
  std::uint64_t timelines_wanted = kStepsAfterPlan;
  Ends<Timeline> timelines{kMaxTimelines};
  Timeline last;  ///< of the last step
  Ends<PlanEntry> plans{kMaxPlans};
  Ends<PlanEvent> events{kMaxEvents};
  std::vector<std::string> curve_names;
  std::vector<Curve> curves;

  [[nodiscard]] Json describe_run() const {
    Json more = Json::array();
    for (const RunFact& fact : facts.more) more.push_back({{"name", fact.name}, {"value", fact.value}});
    return {{"name", facts.name},           {"compressor", facts.compressor}, {"policy", facts.policy},
            {"transport", facts.transport}, {"ranks", facts.ranks},           {"rank", facts.rank},
            {"more", std::move(more)}};
  }
  [[nodiscard]] Json describe_params() const {
    Json json = Json::array();
    for (const ParamReport& param : params) {
      json.push_back({{"name", param.name},
                      {"count", param.count},
                      {"compressor", param.compressor},
                      {"rule", param.rule},
                      {"residual_norm", param.residual_norm}});
    }
    return json;
  }
  [[nodiscard]] Json describe_timelines() const {
    Json json = Json::array();
    for (const Timeline& timeline : timelines.items()) json.push_back(describe(timeline));
    const bool is_there = !timelines.items().empty() && timelines.items().back().step == last.step;
    if (!last.buckets.empty() && !is_there) json.push_back(describe(last));
    return json;
  }
};

RunLog::RunLog(RunFacts facts) : impl_(std::make_unique<Impl>()) {
  constexpr int kMaxRanks = 1'000'000'000;
  require(facts.ranks >= 1 && facts.ranks <= kMaxRanks, "run log: {} ranks; expected 1 to {}", facts.ranks, kMaxRanks);
  require(facts.rank >= 0 && facts.rank < facts.ranks, "run log: rank {} of {}", facts.rank, facts.ranks);
  check_names("run log", {facts.name, facts.compressor, facts.policy, facts.transport});
  for (const RunFact& fact : facts.more) check_names("run log", {fact.name, fact.value});
  impl_->facts = std::move(facts);
}

RunLog::RunLog(RunLog&&) noexcept = default;
RunLog& RunLog::operator=(RunLog&&) noexcept = default;
RunLog::~RunLog() = default;

void RunLog::step(const StepReport& report) {
  Impl& log = *impl_;
  require(report.step > log.last_step, "run log: step {} after step {}", report.step, log.last_step);
  check_report(report);
  const std::size_t named = std::max(log.params_named, params_named(report));
  require(report.params.size() >= named, "run log: step {}: {} parameters, but a bucket has parameter {}", report.step,
          report.params.size(), named - 1);
  log.params_named = named;
  log.last_step = report.step;
  const StepGroup one{.first = report.step,
                      .steps = 1,
                      .wire_bytes = static_cast<double>(report.wire_bytes),
                      .dense_bytes = static_cast<double>(report.dense_bytes),
                      .exposed_us = report.exposed_us,
                      .encode_us = report.encode_us,
                      .wire_us = report.wire_us,
                      .decode_us = report.decode_us,
                      .skipped = report.skipped ? 1u : 0u};
  log.steps.add(one);
  if (log.totals.steps == 0) log.totals.first = report.step;
  log.totals += one;
  log.dense_fallbacks = report.dense_fallbacks;
  log.params = report.params;
  log.last.step = report.step;
  log.last.exposed_us = report.exposed_us;
  log.last.buckets = report.buckets;
  if (log.timelines_wanted > 0 && !report.buckets.empty()) {
    --log.timelines_wanted;
    log.timelines.add(log.last);
  }
}

void RunLog::plan(std::uint64_t step, const Plan& plan, const Table* table) {
  Impl& log = *impl_;
  require(!plan.layers.empty(), "run log: the plan of step {} has no layers", step);
  check_step(step, 0, kMaxStep - 1);
  std::vector<PlanEntry>& plans = log.plans.items();
  PlanEntry entry{step, {}};
  try {
    entry.json = describe(step, plan, table);
  } catch (const Error& error) {
    fail(error.code(), "run log: the plan of step {}: {}", step, error.what());
  }
  if (!plans.empty()) {
    require(step >= plans.back().step, "run log: a plan of step {} after one of step {}", step, plans.back().step);
  }
  if (!plans.empty() && plans.back().step == step) {
    plans.back() = std::move(entry);
  } else {
    log.plans.add(std::move(entry));
  }
  log.timelines_wanted = kStepsAfterPlan;
}

void RunLog::event(const PlanEvent& event) {
  check_step(event.step, 0, kMaxStep - 1);
  check_names("run log", {event.detail});
  impl_->events.add(event);
}

void RunLog::accuracy(std::uint64_t step, double value, std::string_view name) {
  Impl& log = *impl_;
  check_step(step, 0, kMaxStep);
  check_names("run log", {name});
  const auto found = std::find(log.curve_names.begin(), log.curve_names.end(), name);
  const auto index = static_cast<std::size_t>(found - log.curve_names.begin());
  if (found == log.curve_names.end()) {
    require(log.curves.size() < kMaxCurves, "run log: curve \"{}\" is one too many; at most {}", name, kMaxCurves);
    log.curve_names.emplace_back(name);
    log.curves.emplace_back();
  }
  Curve& curve = log.curves[index];
  require(!curve.newest || step > curve.newest->step, "run log: curve \"{}\": step {} after step {}", name, step,
          curve.newest ? curve.newest->step : 0);
  curve.add({step, value});
}

std::string RunLog::json() const {
  const Impl& log = *impl_;
  Json json{{"format", "gradwire-run"}, {"version", 1}, {"gradwire", GRADWIRE_VERSION}};
  json["run"] = log.describe_run();
  json["totals"] = {{"steps", log.totals.steps},
                    {"wire_bytes", log.totals.wire_bytes},
                    {"dense_bytes", log.totals.dense_bytes},
                    {"exposed_us", log.totals.exposed_us},
                    {"skipped_steps", log.totals.skipped},
                    {"dense_fallbacks", log.dense_fallbacks}};
  json["parameters"] = log.describe_params();
  json["steps"] = describe(log.steps.groups());
  json["plans"] = Json::array();
  for (const PlanEntry& entry : log.plans.items()) json["plans"].push_back(entry.json);
  json["plans_left_out"] = log.plans.left_out();
  json["events"] = Json::array();
  for (const PlanEvent& event : log.events.items())
    json["events"].push_back(
        {{"step", as_reported(event.step)}, {"outcome", name(event.outcome)}, {"detail", event.detail}});
  json["events_left_out"] = log.events.left_out();
  json["timelines"] = log.describe_timelines();
  json["curves"] = Json::array();
  for (std::size_t i = 0; i < log.curves.size(); ++i)
    json["curves"].push_back({{"name", log.curve_names[i]}, {"points", describe(log.curves[i])}});
  return dump(json, "run log") + "\n";
}

void RunLog::write(const std::string& path) const {
  const std::string text = json();
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.close();
  file.commit();
}

}  // namespace gradwire
