#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "compress/factor_kernels.hpp"

#include "gradwire/compressor.hpp"

/// \file What low rank does with matrices and factors: see compress/factor_kernels.hpp for their layout. What takes a
/// list of jobs takes memory of hosts or devices, all of its arguments in one of both, and the order of the stream;
/// the bits are the same.
namespace gradwire {

namespace kernels {

/// `non_finite` is set to 1 where the result holds NaN or Inf, and left else: of the host, or pinned.
struct ExpandJob {
  Expand expand;
  std::uint32_t* non_finite;
};

/// Of its key the seed, the step and the parameter count.
struct OrthonormaliseJob {
  Factor factor;
  RandomKey key;
};

}  // namespace kernels

namespace ops {

void times(const kernels::MatrixTimes& job);
void transposed_times(const kernels::MatrixTimes& job);
void times(std::span<const kernels::MatrixTimes> jobs, Space space, StreamRef stream);
void transposed_times(std::span<const kernels::MatrixTimes> jobs, Space space, StreamRef stream);
void expand(std::span<const kernels::ExpandJob> jobs, Space space, StreamRef stream);

/// Bytes of scratch, aligned to 8, that orthonormalise() needs on hosts.
[[nodiscard]] std::size_t orthonormalise_scratch_bytes(std::size_t length, std::size_t rank) noexcept;

/// Replaces the columns, at most as many as they are long and all finite, by orthonormal ones that span them (to about
/// f32 rounding, whatever their condition and scale). A column that depends on those before it is replaced by a random
/// direction first, drawn by `key`. The same bits from any build: no vector code, no fused operations.
void orthonormalise(const Factor& factor, std::byte* scratch, const RandomKey& key);
/// `scratch` is the host's, enough for any of the jobs; devices take it from their pool. There columns that are not
/// finite become NaN.
void orthonormalise(std::span<const kernels::OrthonormaliseJob> jobs, std::byte* scratch, Space space,
                    StreamRef stream);

/// Fills the factor with numbers in (-1, 1).
void fill_random(const Factor& factor, const RandomKey& key);

}  // namespace ops
}  // namespace gradwire
