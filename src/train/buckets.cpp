#include "train/buckets.hpp"

#include <algorithm>
#include <limits>
#include <set>

#include "base/fail.hpp"

#include "gradwire/compressor.hpp"

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

ParamScheme plan_scheme(const ParamInfo& param, const HookOptions& options) {
  ParamScheme scheme;
  scheme.count = count_elems(param);
  const bool chosen = !param.compressor.empty();
  const Compressor compressor = make_compressor(chosen ? param.compressor : options.compressor);
  scheme.compressor = compressor.spec();
  scheme.rule = param.rule.empty() ? options.rule : param.rule;
  const bool small = param.shape.size() <= 1 || scheme.count < options.dense_below_elems;
  const bool plain = options.algorithm == "auto" || options.algorithm == "dense";
  scheme.dense = (small && !chosen) || (compressor.traits().lossless && plain);
  if (scheme.dense) {
    scheme.compressor = "none";
    scheme.rule = "none";
  }
  return scheme;
}

}  // namespace

std::string shape_text(std::span<const std::size_t> shape) {
  std::string text;
  for (const std::size_t extent : shape) text += fmt::format("{}{}", text.empty() ? "" : "x", extent);
  return text.empty() ? "scalar" : text;
}

std::vector<ParamScheme> plan_schemes(std::span<const ParamInfo> params, const HookOptions& options) {
  require(!params.empty(), "a hook needs at least one parameter");
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
  std::vector<BucketPlan> closed;
  BucketPlan open[2];
  std::size_t bytes[2] = {0, 0};
  for (std::size_t i = schemes.size(); i-- > 0;) {
    const auto kind = static_cast<std::size_t>(schemes[i].dense);
    open[kind].params.push_back(i);
    open[kind].dense = schemes[i].dense;
    bytes[kind] += schemes[i].count * sizeof(float);
    if (bytes[kind] < bucket_bytes) continue;
    closed.push_back(std::move(open[kind]));
    open[kind] = {};
    bytes[kind] = 0;
  }
  for (BucketPlan& rest : open) {
    if (!rest.params.empty()) closed.push_back(std::move(rest));
  }
  std::stable_sort(closed.begin(), closed.end(),
                   [](const BucketPlan& a, const BucketPlan& b) { return a.params.back() > b.params.back(); });
  return closed;
}

}  // namespace gradwire
