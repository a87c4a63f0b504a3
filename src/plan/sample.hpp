#pragma once
#include <cstdint>
#include <span>

#include "gradwire/plan.hpp"

namespace gradwire {

/// Product of a shape's extents; 0 beyond 64 bits, too.
[[nodiscard]] std::uint64_t elements_of(std::span<const std::size_t> shape) noexcept;

/// Throws Errc::invalid_argument naming the layer: values that are not f32 in host memory, none, a shape of another
/// number of elements.
void check(const LayerSample& sample);

}  // namespace gradwire
