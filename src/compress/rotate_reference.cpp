/// \file `rotate` as obvious loops: the oracle.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/half.hpp"
#include "compress/isa.hpp"
#include "compress/rotate_arithmetic.hpp"
#include "compress/rotate_kernels.hpp"

namespace gradwire {
namespace {

using rotation::is_negative;

void hadamard(float* v, std::size_t size) {
  for (std::size_t half = 1; half < size; half *= 2)
    for (std::size_t i = 0; i < size; ++i) {
      if ((i & half) != 0) continue;
      const float a = v[i];
      const float b = v[i + half];
      v[i] = a + b;
      v[i + half] = a - b;
    }
}

bool forward(const kernels::RotateForward& job) {
  const float factor = rotation_factor(job.size);
  bool good = true;
  for (std::size_t i = 0; i < job.x.count; ++i) {
    const float x = load_f32(job.x.data, job.x.dtype, i);
    good = good && std::fabs(x) <= kernels::kMaxRotated;
    job.y[i] = is_negative(job.signs, i) ? -(x * factor) : x * factor;
  }
  for (std::size_t i = job.x.count; i < job.size; ++i) job.y[i] = is_negative(job.signs, i) ? -0.0f : 0.0f;
  hadamard(job.y, job.size);
  return good;
}

void inverse(const kernels::RotateInverse& job) {
  for (std::size_t i = 0; i < job.size; ++i) job.v[i] *= job.factor;
  hadamard(job.v, job.size);
  for (std::size_t i = 0; i < job.size; ++i)
    if (is_negative(job.signs, i) != job.negate) job.v[i] = -job.v[i];
}

kernels::Products products(const float* y, const float* q, std::size_t size) {
  std::array<std::array<double, 16>, 3> sums{};
  for (std::size_t i = 0; i < size; ++i) {
    const double a = y[i];
    const double b = q[i];
    sums[0][i % 16] += a * a;
    sums[1][i % 16] += a * b;
    sums[2][i % 16] += b * b;
  }
  for (auto& sum : sums)
    for (std::size_t half = 8; half != 0; half /= 2)
      for (std::size_t j = 0; j < half; ++j) sum[j] += sum[j + half];
  return {sums[0][0], sums[1][0], sums[2][0]};
}

void clamp(const float* v, std::size_t size, float limit, float* out) {
  for (std::size_t i = 0; i < size; ++i) out[i] = std::clamp(v[i], -limit, limit);
}

}  // namespace

float rotation_factor(std::size_t size) noexcept {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(size)));
}

template <>
const RotateKernels& isa::scalar_kernels<RotateKernels>() noexcept {
  static constexpr RotateKernels kKernels{forward, inverse, products, clamp};
  return kKernels;
}

}  // namespace gradwire
