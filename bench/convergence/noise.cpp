#include "noise.hpp"

#include <cmath>
#include <numbers>

namespace gradwire::convergence {
namespace {

constexpr std::uint64_t kGolden = 0x9e37'79b9'7f4a'7c15u;

std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58'476d'1ce4'e5b9u;
  z = (z ^ (z >> 27)) * 0x94d0'49bb'1331'11ebu;
  return z ^ (z >> 31);
}

/// In (0, 1).
double uniform(std::uint64_t bits) { return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52; }

}  // namespace

void add_gaussian(std::span<double> values, double deviation, const NoiseKey& key) {
  const std::uint64_t base =
      mix(mix(mix(key.seed + kGolden) ^ key.step) ^ (static_cast<std::uint64_t>(key.worker) + kGolden));
  for (std::size_t i = 0; i < values.size(); i += 2) {
    const double radius = deviation * std::sqrt(-2 * std::log(uniform(mix(base + (i + 1) * kGolden))));
    const double angle = 2 * std::numbers::pi * uniform(mix(base + (i + 2) * kGolden));
    values[i] += radius * std::cos(angle);
    if (i + 1 < values.size()) values[i + 1] += radius * std::sin(angle);
  }
}

}  // namespace gradwire::convergence
