#pragma once
#include <cstddef>

#include "gradwire/export.hpp"
#include "gradwire/types.hpp"

/// \file Loops over host memory that layers above need. Any dtype unless noted; counts must be equal.
namespace gradwire::ops {

/// out = x * scale + addend, each rounded on its own; null `addend` means none. `out` may be x (when f32) or addend.
GRADWIRE_API void scale_add(ConstTensor x, float scale, const float* addend, float* out);

/// To nearest even; what is beyond the target's range becomes infinite. `to` must not overlap `from`.
GRADWIRE_API void convert(ConstTensor from, Tensor to);

/// y += x.
GRADWIRE_API void add(const float* x, float* y, std::size_t n);

[[nodiscard]] GRADWIRE_API bool all_finite(ConstTensor x);

/// Accumulated in double, in an order that does not depend on the instruction set.
[[nodiscard]] GRADWIRE_API double sum_squares(const float* x, std::size_t n);

}  // namespace gradwire::ops
