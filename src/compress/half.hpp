#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

namespace gradwire::half {

inline constexpr float kMaxF16 = 65504.0f;
inline constexpr float kMaxBf16 = 0x1.fep127f;

/// IEEE binary16 of `value`, to nearest even; overflow becomes infinity, NaN stays NaN (quiet, leading payload bits).
[[nodiscard]] inline std::uint16_t f16_from_f32(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fff'ffffu;
  if (magnitude > 0x7f80'0000u) return static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x4780'0000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 2^16 and above
  if (magnitude < 0x3880'0000u) {  // below 2^-14: denormal; the addition rounds to its last place, 2^-24
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f00'0000u));
  }
  const std::uint32_t odd = (magnitude >> 13) & 1u;
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x3800'0000u + 0xfffu + odd) >> 13));
}

[[nodiscard]] inline float f32_from_f16(std::uint16_t value) noexcept {
  const std::uint32_t sign = (value & 0x8000u) << 16;
  const std::uint32_t magnitude = value & 0x7fffu;
  if (magnitude > 0x7c00u) return std::bit_cast<float>(sign | 0x7fc0'0000u | (magnitude << 13));
  if (magnitude == 0x7c00u) return std::bit_cast<float>(sign | 0x7f80'0000u);
  if (magnitude < 0x400u) {  // denormal: an integer number of 2^-24
    const float exact = static_cast<float>(magnitude) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(exact));
  }
  return std::bit_cast<float>(sign | ((magnitude << 13) + 0x3800'0000u));
}

/// bfloat16 of `value`, to nearest even; overflow becomes infinity, NaN stays NaN (quiet, leading payload bits).
[[nodiscard]] inline std::uint16_t bf16_from_f32(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fff'ffffu) > 0x7f80'0000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

[[nodiscard]] inline float f32_from_bf16(std::uint16_t value) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

}  // namespace gradwire::half
