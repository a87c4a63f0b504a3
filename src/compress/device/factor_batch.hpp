#pragma once
#include <cstddef>

#include "base/host_device.hpp"
#include "compress/factor_ops.hpp"

/// \file What kernels of low rank take in batches.
namespace gradwire::device {

/// A product, block by block: the sums of block b are at sums + b * factor elements, each as a factor.
struct ProductJob {
  kernels::MatrixTimes product;
  float* sums;
};

/// Adds them.
struct AddJob {
  const float* sums;
  float* factor;
  std::size_t count;  ///< elements of the factor
  std::size_t blocks;
};

[[nodiscard]] GRADWIRE_HD constexpr std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

inline constexpr std::size_t kFactorGroup = 4;  // columns of a factor computed together
inline constexpr std::size_t kRowPair = 2;
inline constexpr std::size_t kSumLanes = 16;  // of times()
inline constexpr std::size_t kRowGroup = 4;   // of expand()

}  // namespace gradwire::device
