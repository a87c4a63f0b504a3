#include "train/buckets.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "base/fail.hpp"
#include "compress/spec.hpp"

#include "gradwire/allreduce.hpp"
#include "gradwire/compressor.hpp"
#include "gradwire/feedback.hpp"

namespace gradwire {
namespace {

std::size_t count_elems(const ParamInfo& param) {
  std::size_t count = 1;
  for (const std::size_t extent : param.shape) {
    require(extent > 0, "parameter '{}' has an empty shape [{}]", param.name, shape_text(param.shape));
    require(count <= std::numeric_limits<std::size_t>::max() / sizeof(float) / extent,
            "parameter '{}' is too large: [{}]", param.name, shape_text(param.shape));
    count *= extent;
  }
  return count;
}

Family family_of(const Compressor& compressor) {
  if (compressor.low_rank() != nullptr) return Family::low_rank;
  if (compressor.integer_coder() != nullptr) return Family::integer;  // before sparsifiers: randomk is both
  if (compressor.sparsifier() != nullptr) return Family::sparse;
  return Family::frames;
}

/// The scheme's text is the parameter's compressor or the hook's; a rule in it counts as the parameter's. One that is
/// named apart is read as if it were part of the text, since it may bring a schedule: dgc(0.9,warmup=500).
Scheme read_scheme(const ParamInfo& param, const HookOptions& options) {
  const bool chosen = !param.compressor.empty();
  const std::string& text = chosen ? param.compressor : options.compressor;
  Scheme scheme = parse_scheme(text);
  require(scheme.rule.empty() || !chosen || param.rule.empty(),
          "the scheme \"{}\" names a rule, and so does `rule`: {}", param.compressor, param.rule);
  if (!scheme.rule.empty() && param.rule.empty()) return scheme;
  const std::string& rule = param.rule.empty() ? options.rule : param.rule;
  (void)make_rule(rule, {});                    // a term such as warmup(5) is none
  if (scheme.compressor == Schedule::kDense) {  // nothing that a schedule of the rule's could be about
    scheme.rule = rule;
    return scheme;
  }
  std::string whole;
  for (const std::string_view part : split_stages(text, '+')) {
    if (part != scheme.rule) whole += std::string(part) + '+';
  }
  return parse_scheme(whole + rule);
}

bool keeps_residual(const std::string& rule) {
  for (const NamedState& state : make_rule(rule, {})->state()) {
    if (state.kind == StateKind::residual) return true;
  }
  return false;
}

ParamPlan plan_param(const ParamInfo& param, const HookOptions& options) {
  Scheme scheme = read_scheme(param, options);
  ParamPlan plan{count_elems(param), std::move(scheme.rule), false, std::move(scheme.schedule)};
  (void)make_rule(plan.rule, {});
  require(!plan.schedule.drops_residual() || keeps_residual(plan.rule),
          "decay and reset need a rule that keeps a residual, and {} keeps none", plan.rule);
  const bool small = (param.shape.size() <= 1 || plan.count < options.dense_below_elems) && param.compressor.empty();
  const bool plain = options.algorithm == "auto" || options.algorithm == "dense";
  // Of fallbacks, too: of low rank where it does not pay.
  const bool never_lossy =
      std::all_of(plan.schedule.stages.begin(), plan.schedule.stages.end(), [&](const Schedule::Stage& stage) {
        return plan.scheme(param, stage.first, false).compressor == Schedule::kDense;
      });
  plan.always_dense = small || (never_lossy && plain);
  if (plan.always_dense) {
    plan.schedule = {0, {{std::string(Schedule::kDense), 0}}, 0, 1, 0};
    if (make_rule(plan.rule, {.dense = true})->state().empty()) plan.rule = "none";  // nothing is left of it
  }
  return plan;
}

void check_algorithm(const std::string& name) {
  std::string known = "auto";
  bool found = name == known;
  for (const AlgorithmInfo& info : list_algorithms()) {
    found = found || name == info.name;
    known += ", " + info.name;
  }
  require(found, "unknown algorithm '{}': expected {}", name, known);
}

}  // namespace

std::string shape_text(std::span<const std::size_t> shape) {
  std::string text;
  for (const std::size_t extent : shape) text += fmt::format("{}{}", text.empty() ? "" : "x", extent);
  return text.empty() ? "scalar" : text;
}

ParamScheme ParamPlan::scheme(const ParamInfo& param, std::uint64_t step, bool dense) const {
  ParamScheme scheme{.compressor = std::string(Schedule::kDense), .rule = rule, .count = count};
  if (dense || always_dense) {
    scheme.family = Family::dense;
    return scheme;
  }
  Compressor compressor = make_compressor(schedule.compressor_at(step));
  if (const LowRank* const low_rank = compressor.low_rank(); low_rank && !low_rank->pays(matrix_view(param.shape))) {
    compressor = make_compressor(std::string(low_rank->fallback));
  }
  scheme.compressor = compressor.spec();
  scheme.family = family_of(compressor);
  if (scheme.family == Family::low_rank) scheme.shared = compressor.low_rank()->schedule();
  return scheme;
}

std::string ParamPlan::text() const {
  std::string text;
  for (const Schedule::Stage& stage : schedule.stages) {
    text += stage.first == 0 ? stage.compressor : fmt::format(", from step {} {}", stage.first, stage.compressor);
  }
  text += " + " + rule;
  if (schedule.dense_steps > 0) text += fmt::format(", {} dense steps first", schedule.dense_steps);
  if (schedule.dense_every > 0) text += fmt::format(", dense every {} steps", schedule.dense_every);
  if (schedule.decay != 1) text += fmt::format(", residual decays by {}", schedule.decay);
  if (schedule.reset_every > 0) text += fmt::format(", residual reset every {} steps", schedule.reset_every);
  return text;
}

std::vector<ParamPlan> plan_params(std::span<const ParamInfo> params, const HookOptions& options) {
  require(!params.empty(), "a hook needs at least one parameter");
  // Also where no parameter uses them, as all are small: a wrong name must not go unnoticed.
  check_algorithm(options.algorithm);
  (void)make_rule(options.rule, {});
  (void)parse_scheme(options.compressor);
  std::set<ParamId> ids;
  std::vector<ParamPlan> plans;
  for (const ParamInfo& param : params) {
    require(ids.insert(param.id).second, "parameter '{}' has the id {} of another one", param.name,
            static_cast<std::uint32_t>(param.id));
    try {
      plans.push_back(plan_param(param, options));
    } catch (const Error& error) {
      fail(error.code(), "parameter '{}': {}", param.name, error.what());
    }
  }
  return plans;
}

std::vector<BucketPlan> plan_buckets(std::span<const ParamScheme> schemes, std::size_t bucket_bytes) {
  struct Open {
    BucketPlan plan;
    std::size_t bytes = 0;
  };
  std::vector<BucketPlan> closed;
  std::map<std::pair<Family, std::string>, Open> open;
  for (std::size_t i = schemes.size(); i-- > 0;) {
    if (schemes[i].count == 0) continue;
    const auto place = open.try_emplace({schemes[i].family, schemes[i].shared}).first;
    auto& [plan, bytes] = place->second;
    plan.params.push_back(i);
    plan.family = schemes[i].family;
    bytes += schemes[i].count * sizeof(float);
    if (bytes < bucket_bytes) continue;
    closed.push_back(std::move(plan));
    open.erase(place);
  }
  for (auto& [key, rest] : open) closed.push_back(std::move(rest.plan));
  std::stable_sort(closed.begin(), closed.end(),
                   [](const BucketPlan& a, const BucketPlan& b) { return a.params.back() > b.params.back(); });
  return closed;
}

std::string algorithm_for(Family family, const std::string& option) {
  switch (family) {
    case Family::dense: return "dense";
    case Family::low_rank:  // dense: refused with the reason
      return option == "auto" || option == "dense" || option == "hierarchical" ? option : "lowrank";
    default: return option == "lowrank" ? "auto" : option;
  }
}

}  // namespace gradwire
