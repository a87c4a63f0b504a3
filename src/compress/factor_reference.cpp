// The scalar reference of FactorKernels: obvious loops, which every other implementation must match bit for bit.
#include <algorithm>
#include <array>
#include <cmath>

#include "compress/factor_kernels.hpp"
#include "compress/isa.hpp"

namespace gradwire {
namespace {

constexpr std::size_t kLanes = 16;

float dot(const float* x, const float* y, std::size_t n) {
  std::array<float, kLanes> sums{};
  for (std::size_t i = 0; i < n; ++i) sums[i % kLanes] += x[i] * y[i];
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  }
  return sums[0];
}

void times(const kernels::MatrixTimes& job) {
  for (std::size_t j = 0; j < job.rank; ++j) {
    for (std::size_t row = 0; row < job.rows; ++row) {
      const float* const m = job.m + row * job.cols;
      float sum = 0;
      for (std::size_t first = 0; first < job.cols; first += job.row_block()) {
        sum += dot(m + first, job.basis + j * job.cols + first, std::min(job.row_block(), job.cols - first));
      }
      job.factor[j * job.rows + row] = sum;
    }
  }
}

void transposed_times(const kernels::MatrixTimes& job) {
  for (std::size_t j = 0; j < job.rank; ++j) {
    for (std::size_t col = 0; col < job.cols; ++col) {
      float sum = 0;
      for (std::size_t first = 0; first < job.rows; first += job.column_block()) {
        float block = 0;
        for (std::size_t row = first; row < std::min(first + job.column_block(), job.rows); ++row) {
          block += job.basis[j * job.rows + row] * job.m[row * job.cols + col];
        }
        sum += block;
      }
      job.factor[j * job.cols + col] = sum;
    }
  }
}

bool expand(const kernels::Expand& job) {
  bool finite = true;
  for (std::size_t row = 0; row < job.rows; ++row) {
    for (std::size_t col = 0; col < job.cols; ++col) {
      const auto entry = [&](const float* left, const float* right) {
        float sum = left[row] * right[col];
        for (std::size_t j = 1; j < job.rank; ++j) sum += left[j * job.rows + row] * right[j * job.cols + col];
        return sum;
      };
      float& m = job.m[row * job.cols + col];
      if (job.residual != nullptr) job.residual[row * job.cols + col] = m - entry(job.left_mine, job.right_mine);
      m = entry(job.left_sum, job.right_sum);
      finite = finite && std::isfinite(m);
    }
  }
  return finite;
}

}  // namespace

template <>
const FactorKernels& isa::scalar_kernels<FactorKernels>() noexcept {
  static constexpr FactorKernels kKernels{times, transposed_times, expand};
  return kKernels;
}

}  // namespace gradwire
