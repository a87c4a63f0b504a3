/// \file The obvious scalar loops: the oracle that every instruction set equals bit for bit, and the kernels of the
/// instruction set "scalar".
#include "compress/reference.hpp"

#include <array>
#include <cmath>

#include "compress/isa.hpp"
#include "compress/kernels.hpp"

namespace gradwire {
namespace {
using namespace reference;

bool cast_encode(const kernels::CastEncode& job) {
  bool finite = true;
  for (std::size_t i = 0; i < job.x.count; ++i) {
    const float x = load(job.x.data, job.x.dtype, i);
    finite = finite && std::isfinite(x);
    store(job.payload, job.to, i, x);
    store_residual(job.residual, i, x - load(job.payload, job.to, i));
  }
  return finite;
}

void cast_decode(const kernels::CastDecode& job) {
  for (std::size_t i = 0; i < job.y.count; ++i) put(job.y, job.write, i, load(job.payload, job.from, i));
}

void scale_add(const ops::ScaleAdd& job) {
  for (std::size_t i = 0; i < job.x.count; ++i) {
    const float scaled = load(job.x.data, job.x.dtype, i) * job.scale;
    store(job.out, DType::f32, i, job.addend == nullptr ? scaled : scaled + load(job.addend, DType::f32, i));
  }
}

bool all_finite(ConstTensor x) {
  for (std::size_t i = 0; i < x.count; ++i)
    if (!std::isfinite(load(x.data, x.dtype, i))) return false;
  return true;
}

double sum_squares(const float* x, std::size_t n) {
  std::array<double, 16> sums{};
  for (std::size_t i = 0; i < n; ++i) {
    const auto value = static_cast<double>(load(x, DType::f32, i));
    sums[i % 16] += value * value;
  }
  for (std::size_t half = 8; half != 0; half /= 2)
    for (std::size_t j = 0; j < half; ++j) sums[j] += sums[j + half];
  return sums[0];
}

}  // namespace

template <>
const ElementKernels& isa::scalar_kernels<ElementKernels>() noexcept {
  static constexpr ElementKernels kKernels{cast_encode, cast_decode, scale_add, all_finite, sum_squares};
  return kKernels;
}

}  // namespace gradwire
