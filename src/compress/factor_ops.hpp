#pragma once
#include <cstddef>

#include "compress/factor_kernels.hpp"

#include "gradwire/compressor.hpp"

/// \file What low rank does with matrices and factors: see compress/factor_kernels.hpp for their layout.
namespace gradwire {

struct Factor {
  float* data = nullptr;
  std::size_t length = 0;
  std::size_t rank = 0;

  [[nodiscard]] std::size_t count() const noexcept { return length * rank; }
  [[nodiscard]] float* column(std::size_t j) const noexcept { return data + j * length; }
};

namespace ops {

void times(const kernels::MatrixTimes& job);
void transposed_times(const kernels::MatrixTimes& job);
[[nodiscard]] bool expand(const kernels::Expand& job);

/// Bytes of scratch, aligned to 8, that orthonormalise() needs.
[[nodiscard]] std::size_t orthonormalise_scratch_bytes(std::size_t length, std::size_t rank) noexcept;

/// Replaces the columns, at most as many as they are long and all finite, by orthonormal ones that span them (to about
/// f32 rounding, whatever their condition and scale). A column that depends on those before it is replaced by a random
/// direction first, drawn by `key`. The same bits from any build: no vector code, no fused operations.
void orthonormalise(const Factor& factor, std::byte* scratch, const RandomKey& key);

/// Fills the factor with numbers in (-1, 1).
void fill_random(const Factor& factor, const RandomKey& key);

}  // namespace ops
}  // namespace gradwire
