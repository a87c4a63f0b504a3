// Sparsifiers from their text specs.
#include <algorithm>
#include <limits>

#include "compress/registry.hpp"
#include "compress/sparse/adaptive.hpp"
#include "compress/sparse/block_topk.hpp"
#include "compress/sparse/compressor.hpp"
#include "compress/sparse/randomk.hpp"
#include "compress/sparse/topk.hpp"

namespace gradwire {
namespace sparse {
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

}  // namespace
}  // namespace sparse

std::vector<RegistryEntry> sparse_entries() {
  return {
      {{"topk", "topk(density=0.01,select=exact)", "density=1e-9..1 or k=1.. select=exact|sampled",
        "the elements of largest magnitude, ties to the lower index; sampled: 0.8 k to k of them, by a guessed "
        "threshold;"
        " topk(0.01)|q4 codes their values by q4, as for all sparsifiers",
        "1 - k/d; sampled 1 - 0.8 k/d", "arXiv:1809.07599; sampled: Deep Gradient Compression, arXiv:1712.01887"},
       sparse::make_topk},
      {{"threshold", "threshold(t=0.001)", "t=0..1e38", "the elements of at least this magnitude, however many", "1",
        "Strom, INTERSPEECH 2015"},
       sparse::make_threshold},
      {{"randomk", "randomk(density=0.01,scale=none)", "density=1e-9..1 or k=1.. scale=none|unbiased",
        "one random element in each of k strata; the frame carries a seed and no indices",
        "S = ceil(d/k): 1 - 1/S; unbiased S - 1", "arXiv:1809.07599"},
       sparse::make_randomk},
      {{"block_topk", "block_topk(density=0.01,block=64,norm=l2)",
        "density=1e-9..1 or k=1.. (of blocks) block=32..256 (multiples of 32) norm=l2|linf",
        "whole blocks, those of largest norm", "of n blocks, m sent: 1 - m/n; linf 1 - m/(m + (n - m) B)",
        "OmniReduce, SIGCOMM 2021"},
       sparse::make_block_topk},
      {{"adaptive_threshold", "adaptive_threshold(density=0.01,refresh=128)",
        "density=1e-9..1 or k=1.. refresh=1..1000000",
        "elements above an earlier step's threshold as long as 4k/5 to 5k/4 pass, else exact; depends on earlier steps",
        "1 - 0.8 k/d", "Ok-Topk, arXiv:2201.07598"},
       sparse::make_adaptive_threshold},
  };
}

}  // namespace gradwire
