#include "gaussian.hpp"

#include <random>

#include "base/half.hpp"

namespace gradwire::tools {

void fill_gaussian(Tensor to, std::uint64_t seed, int rank) {
  std::seed_seq key{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32),
                    static_cast<std::uint32_t>(rank)};
  std::mt19937_64 random(key);
  std::normal_distribution<float> gaussian;
  for (std::size_t i = 0; i < to.count; ++i) store_f32(to.data, to.dtype, i, gaussian(random));
}

}  // namespace gradwire::tools
