#pragma once
#include <bit>
#include <cstdint>

#include "base/host_device.hpp"

namespace gradwire {

/// The larger of two ranges of IntegerCoder, which are not negative; NaN is larger than all others.
[[nodiscard]] GRADWIRE_HD inline float larger_range(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) < std::bit_cast<std::uint32_t>(b) ? b : a;
}

}  // namespace gradwire
