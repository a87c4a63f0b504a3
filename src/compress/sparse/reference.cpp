/// \file The obvious loops: the oracle of every instruction set, and the kernels of "scalar".
#include <algorithm>
#include <bit>

#include "base/half.hpp"
#include "compress/isa.hpp"
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

}  // namespace

template <>
const SparseKernels& isa::scalar_kernels<SparseKernels>() noexcept {
  static constexpr SparseKernels kKernels{scan, histogram};
  return kKernels;
}

}  // namespace gradwire
