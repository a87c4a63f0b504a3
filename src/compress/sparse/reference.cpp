/// \file The obvious loops: the oracle of every instruction set, and the kernels of "scalar".
#include <algorithm>
#include <array>
#include <bit>

#include "base/half.hpp"
#include "compress/isa.hpp"
#include "compress/quantize_params.hpp"
#include "compress/sparse/kernels.hpp"

namespace gradwire {
namespace {

std::uint32_t magnitude(float x) { return std::bit_cast<std::uint32_t>(x) & sparse::kMagnitudeMask; }

sparse::Scanned scan(const sparse::Scan& job) {
  sparse::Scanned result{0, 0};
  for (std::size_t i = 0; i < job.x.count; ++i) {
    const float x = load_f32(job.x.data, job.x.dtype, i);
    if (job.residual != nullptr) store_f32(job.residual, DType::f32, i, x);
    result.most = std::max(result.most, magnitude(x));
    if (magnitude(x) < job.threshold) continue;
    job.index[result.found] = job.base + static_cast<std::uint32_t>(i);
    job.value[result.found++] = x;
  }
  return result;
}

void histogram(const sparse::Histogram& job) {
  for (std::size_t i = 0; i < job.x.count; ++i) {
    const std::uint32_t m = magnitude(load_f32(job.x.data, job.x.dtype, i));
    if (m >> job.shift >> job.width == job.prefix) ++job.counts[(m >> job.shift) & ((1u << job.width) - 1)];
  }
}

std::uint32_t block_norms(const sparse::BlockNorms& job) {
  std::uint32_t most = 0;
  for (std::size_t first = 0; first < job.x.count; first += job.block) {
    std::uint32_t largest = 0;
    std::array<float, 16> sums{};
    for (std::size_t i = first; i < std::min(first + job.block, job.x.count); ++i) {
      const float x = load_f32(job.x.data, job.x.dtype, i);
      if (job.residual != nullptr) store_f32(job.residual, DType::f32, i, x);
      largest = std::max(largest, magnitude(x));
      sums[i % 16] += x * x;
    }
    job.norms[first / job.block] = job.largest ? largest : magnitude(norm_from_partial_sums(sums.data()));
    most = std::max(most, largest);
  }
  return most;
}

}  // namespace

template <>
const SparseKernels& isa::scalar_kernels<SparseKernels>() noexcept {
  static constexpr SparseKernels kKernels{scan, histogram, block_norms};
  return kKernels;
}

}  // namespace gradwire
