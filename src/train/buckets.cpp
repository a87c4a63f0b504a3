#include "train/buckets.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "base/fail.hpp"

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

ParamScheme plan_scheme(const ParamInfo& param, const HookOptions& options) {
  ParamScheme scheme;
  scheme.count = count_elems(param);
  const bool chosen = !param.compressor.empty();
  Compressor compressor = make_compressor(chosen ? param.compressor : options.compressor);
  if (const LowRank* const low_rank = compressor.low_rank(); low_rank && !low_rank->pays(matrix_view(param.shape))) {
    compressor = make_compressor(std::string(low_rank->fallback));
  }
  scheme.compressor = compressor.spec();
  scheme.rule = param.rule.empty() ? options.rule : param.rule;
  (void)make_rule(scheme.rule, 0);
  const bool small = param.shape.size() <= 1 || scheme.count < options.dense_below_elems;
  const bool plain = options.algorithm == "auto" || options.algorithm == "dense";
  scheme.family = family_of(compressor);
  if ((small && !chosen) || (compressor.spec() == "none" && plain)) scheme.family = Family::dense;
  if (scheme.dense()) {
    scheme.compressor = "none";
    scheme.rule = "none";
  }
  if (scheme.family == Family::low_rank) scheme.schedule = compressor.low_rank()->schedule();
  return scheme;
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

std::vector<ParamScheme> plan_schemes(std::span<const ParamInfo> params, const HookOptions& options) {
  require(!params.empty(), "a hook needs at least one parameter");
  // Also where no parameter uses them, as all are small: a wrong name must not go unnoticed.
  check_algorithm(options.algorithm);
  (void)make_rule(options.rule, 0);
  std::set<ParamId> ids;
  std::vector<ParamScheme> schemes;
  for (const ParamInfo& param : params) {
    require(ids.insert(param.id).second, "parameter '{}' has the id {} of another one", param.name,
            static_cast<std::uint32_t>(param.id));
    try {
      schemes.push_back(plan_scheme(param, options));
    } catch (const Error& error) {
      fail(error.code(), "parameter '{}': {}", param.name, error.what());
    }
  }
  return schemes;
}

std::vector<BucketPlan> plan_buckets(std::span<const ParamScheme> schemes, std::size_t bucket_bytes) {
  struct Open {
    BucketPlan plan;
    std::size_t bytes = 0;
  };
  std::vector<BucketPlan> closed;
  std::map<std::pair<Family, std::string>, Open> open;
  for (std::size_t i = schemes.size(); i-- > 0;) {
    const auto place = open.try_emplace({schemes[i].family, schemes[i].schedule}).first;
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
    case Family::low_rank: return option == "dense" ? option : "lowrank";  // dense: refused with the reason
    default: return option == "lowrank" ? "auto" : option;
  }
}

}  // namespace gradwire
