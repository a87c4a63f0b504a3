#include "compress/sparse/make.hpp"

#include <algorithm>
#include <limits>

#include "base/fail.hpp"
#include "compress/sparse/compressor.hpp"
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
  static_cast<void>(options.choice("select", 0, {"exact"}));
  options.finish();
  return SparseCompressor(std::make_shared<ExactTopK>(density));
}

}  // namespace gradwire::sparse
