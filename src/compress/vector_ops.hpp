#pragma once
#include <cstddef>

#include "gradwire/types.hpp"

/// \file Loops over host memory that layers above need. Any dtype unless noted; counts must be equal.
namespace gradwire::ops {

/// out = x * scale + addend, each rounded on its own; null `addend` means none. `out` may be x (when f32) or addend.
void scale_add(ConstTensor x, float scale, const float* addend, float* out);

/// To nearest even; finite values beyond the target's range saturate. `to` must not overlap `from`.
void convert(ConstTensor from, Tensor to);

/// y += x.
void add(const float* x, float* y, std::size_t n);

[[nodiscard]] bool all_finite(ConstTensor x);

/// Accumulated in double, in an order that does not depend on the instruction set.
[[nodiscard]] double sum_squares(const float* x, std::size_t n);

}  // namespace gradwire::ops
