#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "gradwire/plan.hpp"

namespace gradwire {

/// Product of a shape's extents; 0 beyond 64 bits, too.
[[nodiscard]] std::uint64_t elements_of(std::span<const std::size_t> shape) noexcept;

/// What a spec does with such a matrix: a low-rank scheme that pays, else its fallback, or what the spec says. Throws
/// what make_compressor() throws.
[[nodiscard]] Compressor compressor_for(const std::string& spec, MatrixView view);

/// Of the factors that a step sends.
[[nodiscard]] std::size_t low_rank_bytes(const LowRank& scheme, MatrixView view);

/// Columns that the highest rank among `specs` has for such a matrix: as many singular values as measure_layer() finds.
/// 0 where no spec is of a low rank that pays. Throws what make_compressor() throws.
[[nodiscard]] std::size_t most_rank(std::span<const std::string> specs, MatrixView view);

/// Throws Errc::invalid_argument naming the layer: values that are not f32 in host memory, none, a shape of another
/// number of elements.
void check(const LayerSample& sample);

}  // namespace gradwire
