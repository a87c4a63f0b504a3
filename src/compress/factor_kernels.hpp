#pragma once
#include <cstddef>

/// \file The inner loops behind low rank, as a family of kernels (compress/isa.hpp). Matrices are f32, row after row; a
/// factor is `rank` columns, each contiguous, one after another. All memory is host memory, any alignment, and nothing
/// overlaps unless noted. The bits of every output are fixed, as stated at each kernel, so that ranks on different
/// machines compute the same.
///
/// Long sums are made of the sums of blocks, so that devices, which need many threads, have the same ones at their full
/// speed: see sum_block(). Blocks' sums are added in order.
namespace gradwire {

struct Factor {
  float* data = nullptr;
  std::size_t length = 0;
  std::size_t rank = 0;

  [[nodiscard]] constexpr std::size_t count() const noexcept { return length * rank; }
  [[nodiscard]] constexpr float* column(std::size_t j) const noexcept { return data + j * length; }
};

namespace kernels {

/// The most blocks of a sum: devices add their sums one after another.
inline constexpr std::size_t kMostSums = 128;
/// Elements of a block: `least` where that makes no more blocks than kMostSums; a multiple of 16.
[[nodiscard]] constexpr std::size_t sum_block(std::size_t length, std::size_t least) noexcept {
  const std::size_t even = (length + kMostSums - 1) / kMostSums;
  const std::size_t rounded = (even + 15) / 16 * 16;
  return rounded < least ? least : rounded;
}

struct MatrixTimes {
  const float* m;
  std::size_t rows;
  std::size_t cols;
  const float* basis;
  std::size_t rank;
  float* factor;

  /// Elements of a row, or rows, in a block of a sum.
  [[nodiscard]] constexpr std::size_t row_block() const noexcept { return sum_block(cols, 1024); }
  [[nodiscard]] constexpr std::size_t column_block() const noexcept { return sum_block(rows, 128); }
};

/// `sums` are what all ranks agreed on, `mine` what this rank contributed to them; they may be the same memory.
struct Expand {
  float* m;  ///< in: the matrix; out: the result
  std::size_t rows;
  std::size_t cols;
  std::size_t rank;
  const float* left_sum;
  const float* right_sum;
  const float* left_mine;
  const float* right_mine;
  float* residual;  ///< or null
};

}  // namespace kernels

struct FactorKernels {
  /// factor (rows x rank) = m basis (cols x rank). The sum of a block is 16 interleaved partial sums, added pairwise.
  void (*times)(const kernels::MatrixTimes&);
  /// factor (cols x rank) = m^T basis (rows x rank). The sum of a block runs over its rows in order.
  void (*transposed_times)(const kernels::MatrixTimes&);
  /// residual = m - left_mine right_mine^T; m = left_sum right_sum^T. Products are added in order of the columns. False
  /// when the result holds NaN or Inf.
  bool (*expand)(const kernels::Expand&);
};

}  // namespace gradwire
