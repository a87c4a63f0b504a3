#include "gradwire/run_log.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <optional>

#include "base/atomic_file.hpp"
#include "base/fail.hpp"

#include "gradwire/version.hpp"

namespace gradwire {
namespace {

using Json = nlohmann::ordered_json;

// What is kept at most; docs/run-format.md has these numbers too.
constexpr std::size_t kMaxPoints = 2000;
constexpr std::size_t kMaxPlans = 256;
constexpr std::size_t kMaxEvents = 1000;
constexpr std::size_t kMaxTimelines = 64;
constexpr std::size_t kMaxCurves = 16;
constexpr std::uint64_t kStepsAfterPlan = 3;  // whose timelines are kept

/// Sums over consecutive steps.
struct StepGroup {
  std::uint64_t first = 0;
  std::uint64_t steps = 0;
  double wire_bytes = 0;
  double dense_bytes = 0;
  double exposed_us = 0;
  double encode_us = 0;
  double wire_us = 0;
  double decode_us = 0;
  std::uint64_t skipped = 0;

  StepGroup& operator+=(const StepGroup& other) {
    steps += other.steps;
    wire_bytes += other.wire_bytes;
    dense_bytes += other.dense_bytes;
    exposed_us += other.exposed_us;
    encode_us += other.encode_us;
    wire_us += other.wire_us;
    decode_us += other.decode_us;
    skipped += other.skipped;
    return *this;
  }
};

/// At most kMaxPoints groups of equal size; the last one may still be filling.
class StepSeries {
 public:
  void add(const StepGroup& step) {
    if (!groups_.empty() && groups_.back().steps < size_) {
      groups_.back() += step;
      return;
    }
    if (groups_.size() == kMaxPoints) halve();
    groups_.push_back(step);
  }
  [[nodiscard]] const std::vector<StepGroup>& groups() const { return groups_; }

 private:
  void halve() {
    for (std::size_t i = 0; i < groups_.size() / 2; ++i) {
      groups_[i] = groups_[2 * i];
      groups_[i] += groups_[2 * i + 1];
    }
    groups_.resize(groups_.size() / 2);
    size_ *= 2;
  }

  std::vector<StepGroup> groups_;
  std::uint64_t size_ = 1;
};

struct CurvePoint {
  std::uint64_t step = 0;
  double value = 0;
};

/// Every 2^k-th point that was added, and the newest.
struct Curve {
  std::vector<CurvePoint> points;
  std::optional<CurvePoint> newest;
  std::uint64_t stride = 1;
  std::uint64_t added = 0;

  void add(CurvePoint point) {
    newest = point;
    if (added++ % stride != 0) return;
    if (points.size() == kMaxPoints) {
      for (std::size_t i = 0; i < points.size() / 2; ++i) points[i] = points[2 * i];
      points.resize(points.size() / 2);
      stride *= 2;
      if ((added - 1) % stride != 0) return;
    }
    points.push_back(point);
  }
};

/// The oldest and the newest `capacity` / 2 of what was added.
template <class T>
class Ends {
 public:
  explicit Ends(std::size_t capacity) : capacity_(capacity) {}

  void add(T item) {
    if (items_.size() == capacity_) {
      items_.erase(items_.begin() + static_cast<std::ptrdiff_t>(capacity_ / 2));
      ++left_out_;
    }
    items_.push_back(std::move(item));
  }
  [[nodiscard]] const std::vector<T>& items() const { return items_; }
  [[nodiscard]] std::vector<T>& items() { return items_; }
  [[nodiscard]] std::uint64_t left_out() const { return left_out_; }

 private:
  std::size_t capacity_;
  std::vector<T> items_;
  std::uint64_t left_out_ = 0;
};

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

const Candidate* reference_of(const TableLayer& layer) {
  return layer.reference < layer.candidates.size() ? &layer.candidates[layer.reference] : nullptr;
}

/// As plan_from_json() reads it, and of each layer what the table knows.
Json describe(std::uint64_t step, const Plan& plan, const Table* table) {
  std::map<std::string_view, const TableLayer*> rows;
  if (table != nullptr)
    for (const TableLayer& layer : table->layers) rows[layer.name] = &layer;
  Json json{{"step", as_reported(step)}};
  json.update(Json::parse(to_json(plan)));
  for (Json& layer : json["layers"]) {
    const auto found = rows.find(layer["name"].get_ref<const std::string&>());
    if (found == rows.end()) continue;
    const TableLayer& row = *found->second;
    layer["count"] = row.count;
    if (!row.shape.empty()) layer["shape"] = row.shape;
    if (row.norm > 0) layer["norm"] = row.norm;
    if (const Candidate* reference = reference_of(row))
      layer["reference"] = {{"spec", reference->spec}, {"bytes", reference->bytes}, {"error", reference->error}};
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

/// What `make` makes of names, which have to be UTF-8.
template <class Make>
auto in_utf8(Make make) {
  try {
    return make();
  } catch (const Json::exception& error) {
    fail(Errc::invalid_argument, "run log: a name cannot be written, as it is no UTF-8: {}", error.what());
  }
}

}  // namespace

struct RunLog::Impl {
  RunFacts facts;
  StepSeries steps;
  StepGroup totals;
  std::uint64_t last_step = 0;
  std::uint64_t dense_fallbacks = 0;
  std::vector<ParamReport> params;
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
  require(facts.ranks >= 1, "run log: {} ranks; expected at least 1", facts.ranks);
  require(facts.rank >= 0 && facts.rank < facts.ranks, "run log: rank {} of {}", facts.rank, facts.ranks);
  impl_->facts = std::move(facts);
}

RunLog::RunLog(RunLog&&) noexcept = default;
RunLog& RunLog::operator=(RunLog&&) noexcept = default;
RunLog::~RunLog() = default;

void RunLog::step(const StepReport& report) {
  Impl& log = *impl_;
  require(report.step > log.last_step, "run log: step {} after step {}", report.step, log.last_step);
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
  std::vector<PlanEntry>& plans = log.plans.items();
  PlanEntry entry{step, in_utf8([&] { return describe(step, plan, table); })};
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

void RunLog::event(const PlanEvent& event) { impl_->events.add(event); }

void RunLog::accuracy(std::uint64_t step, double value, std::string_view name) {
  Impl& log = *impl_;
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
  return in_utf8([&] { return json.dump() + "\n"; });
}

void RunLog::write(const std::string& path) const {
  const std::string text = json();
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.close();
  file.commit();
}

}  // namespace gradwire
