#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "base/host_device.hpp"
#include "compress/random.hpp"

/// \file The arithmetic of docs/wire-format.md 1.10 under `integer_sum`, which host and device code share.
namespace gradwire::thc {

/// Codes 0 .. top evenly over [-clip s, clip s], s the range of a block.
struct Scale {
  std::uint32_t top = 0;
  float clip = 0;
};

/// Units below this have no use: their inverses leave f32.
inline constexpr float kLeastUnit = 0x1p-100f;

/// The range of a block of `size` elements, with its padding; NaN where it may have one that the transform refuses.
/// (Where the sum of squares is at most 2^224 no element is above 2^112.)
[[nodiscard]] GRADWIRE_HD inline float range_of(double squares, std::size_t size) {
  if (!(squares <= 0x1p224)) return std::numeric_limits<float>::quiet_NaN();
  return static_cast<float>(std::sqrt(squares / static_cast<double>(size)));
}

/// Half the distance between two codes in a block of this range; 0 where it is too small for an inverse.
[[nodiscard]] GRADWIRE_HD inline float half_unit(const Scale& scale, float range) {
  const float half = scale.clip * range / static_cast<float>(scale.top);
  return half < kLeastUnit ? 0.0f : half;
}
[[nodiscard]] GRADWIRE_HD inline float inverse_unit(float half) { return half == 0 ? 0.0f : 0.5f / half; }

/// Of a rotated value; of NaN `top`.
[[nodiscard]] GRADWIRE_HD inline std::uint32_t code_of(float y, float inv, std::uint32_t top, std::uint16_t random) {
  const float middle = static_cast<float>(top) * 0.5f;
  const float level = y * inv;
  const float clipped = level < -middle ? -middle : level < middle ? level : middle;
  const auto code = static_cast<std::uint32_t>(clipped + (middle + RandomStream::unit_interval(random)));
  return code < top ? code : top;
}

/// What a sum of codes stands for, `offset` being `top` times their number. (Of a rank that refused, anything may be in
/// a sum: numbers wrap.)
[[nodiscard]] GRADWIRE_HD inline float value_of(std::uint32_t sum, std::int32_t offset, float half) {
  return static_cast<float>(static_cast<std::int32_t>(2 * sum - static_cast<std::uint32_t>(offset))) * half;
}

}  // namespace gradwire::thc
