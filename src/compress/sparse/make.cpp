#include "compress/sparse/make.hpp"

#include <algorithm>
#include <limits>

#include "compress/sparse/adaptive.hpp"
#include "compress/sparse/block_topk.hpp"
#include "compress/sparse/compressor.hpp"
#include "compress/sparse/randomk.hpp"
#include "compress/sparse/topk.hpp"

namespace gradwire::sparse {
namespace {

constexpr double kLeastDensity = 1e-9;

Density read_density(const Spec& spec, OptionReader& options) {
  const auto given = [&](std::string_view name) {
    return std::any_of(spec.options.begin(), spec.options.end(),
                       [&](const SpecOption& option) { return option.name == name; });
  };
  Density density;
  if (given("k")) {
    density.number = options.number("k", 1, 1, std::numeric_limits<std::uint32_t>::max());
  } else {
    density.share = options.real("density", density.share, kLeastDensity, 1);
  }
  return density;
}

}  // namespace

Compressor make_topk(const Spec& spec) {
  OptionReader options(spec, {"density"});
  const Density density = read_density(spec, options);
  const bool sampled = options.choice("select", 0, {"exact", "sampled"}) == 1;
  options.finish();
  if (sampled) return SparseCompressor(std::make_shared<SampledTopK>(density));
  return SparseCompressor(std::make_shared<ExactTopK>(density));
}

Compressor make_threshold(const Spec& spec) {
  OptionReader options(spec, {"t"});
  const auto threshold = static_cast<float>(options.real("t", 0.001, 0, 1e38));
  options.finish();
  return SparseCompressor(std::make_shared<Threshold>(threshold));
}

Compressor make_randomk(const Spec& spec) {
  OptionReader options(spec, {"density"});
  const Density density = read_density(spec, options);
  const auto scale = static_cast<RandomK::Scale>(options.choice("scale", 0, {"none", "unbiased"}));
  options.finish();
  return SparseCompressor(std::make_shared<RandomK>(density, scale));
}

Compressor make_block_topk(const Spec& spec) {
  OptionReader options(spec, {"density"});
  const Density density = read_density(spec, options);
  const std::size_t block = options.number("block", 64, 32, 256, 32);
  const auto norm = static_cast<BlockTopK::Norm>(options.choice("norm", 0, {"l2", "linf"}));
  options.finish();
  return SparseCompressor(std::make_shared<BlockTopK>(density, block, norm));
}

Compressor make_adaptive_threshold(const Spec& spec) {
  OptionReader options(spec, {"density"});
  const Density density = read_density(spec, options);
  const std::uint32_t refresh = options.number("refresh", 128, 1, 1'000'000);
  options.finish();
  return SparseCompressor(std::make_shared<AdaptiveThreshold>(density, refresh));
}

}  // namespace gradwire::sparse
