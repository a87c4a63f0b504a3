#pragma once
#include <cstddef>

/// \file The inner loops behind low rank, as a family of kernels (compress/isa.hpp). Matrices are f32, row after row; a
/// factor is `rank` columns, each contiguous, one after another. All memory is host memory, any alignment, and nothing
/// overlaps unless noted. The bits of every output are fixed, as stated at each kernel, so that ranks on different
/// machines compute the same.
namespace gradwire::kernels {

struct MatrixTimes {
  const float* m;
  std::size_t rows;
  std::size_t cols;
  const float* basis;
  std::size_t rank;
  float* factor;
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

}  // namespace gradwire::kernels

namespace gradwire {

struct FactorKernels {
  /// factor (rows x rank) = m basis (cols x rank). A sum is 16 interleaved partial sums, added pairwise.
  void (*times)(const kernels::MatrixTimes&);
  /// factor (cols x rank) = m^T basis (rows x rank). Sums run over the rows in order.
  void (*transposed_times)(const kernels::MatrixTimes&);
  /// residual = m - left_mine right_mine^T; m = left_sum right_sum^T. Products are added in order of the columns. False
  /// when the result holds NaN or Inf.
  bool (*expand)(const kernels::Expand&);
};

}  // namespace gradwire
