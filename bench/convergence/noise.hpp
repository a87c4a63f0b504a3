#pragma once
#include <cstdint>
#include <span>

namespace gradwire::convergence {

/// Names the random numbers of one vector: the same key gives the same numbers, whatever was drawn before.
struct NoiseKey {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  int worker = 0;
};

/// values[i] += deviation * N(0, 1), independent between elements and keys. Counter-based: SplitMix64's finaliser over
/// the key and i, then Box-Muller.
void add_gaussian(std::span<double> values, double deviation, const NoiseKey& key);

}  // namespace gradwire::convergence
