#pragma once
#include <cstddef>

#include "compress/quantize_params.hpp"

namespace gradwire {

/// Compressor::error_bound() of `quantize`, `sign` and `ternary` for one bucket of at most `elems` elements.
[[nodiscard]] double quantize_error_bound(const QuantizeParams& params, std::size_t elems) noexcept;

}  // namespace gradwire
