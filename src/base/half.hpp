#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/host_device.hpp"

#include "gradwire/types.hpp"

namespace gradwire {

// Scalar 16-bit conversions, IEEE 754: rounding to nearest even, denormals kept, overflow to infinity. NaN stays NaN:
// the payload's high bits are kept and the quiet bit is set, as F16C and NEON do, so that SIMD code can be
// bit-identical.

[[nodiscard]] GRADWIRE_HD inline float f32_from_f16(std::uint16_t half) noexcept {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fu;
  const std::uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  if (exponent == 0x1f) {
    const std::uint32_t quiet = mantissa != 0 ? 0x400000u : 0u;
    return std::bit_cast<float>(sign | 0x7f800000u | quiet | (mantissa << 13));
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

[[nodiscard]] GRADWIRE_HD inline std::uint16_t f16_from_f32(float value) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  }
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds past 65504
  if (magnitude < 0x38800000u) {
    // Below 2^-14: adding 0.5 makes the f32 adder round at the place of the smallest half denormal.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  const std::uint32_t odd = (magnitude >> 13) & 1u;
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

[[nodiscard]] GRADWIRE_HD inline float f32_from_bf16(std::uint16_t bf16) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bf16) << 16);
}

[[nodiscard]] GRADWIRE_HD inline std::uint16_t bf16_from_f32(float value) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// Element i of a tensor in the memory of whoever calls, widened.
[[nodiscard]] GRADWIRE_HD inline float load_f32(const void* data, DType dtype, std::size_t i) noexcept {
  if (dtype == DType::f32) {
    float value;
    std::memcpy(&value, static_cast<const std::byte*>(data) + 4 * i, 4);
    return value;
  }
  std::uint16_t bits;
  std::memcpy(&bits, static_cast<const std::byte*>(data) + 2 * i, 2);
  return dtype == DType::f16 ? f32_from_f16(bits) : f32_from_bf16(bits);
}

inline constexpr float kMaxF16 = 65504.0F;
inline constexpr float kMaxBf16 = 0x1.fep127F;

/// Finite values beyond the range of `dtype` become the largest of their sign; infinities and NaN stay.
[[nodiscard]] GRADWIRE_HD inline float saturate(float value, DType dtype) noexcept {
  if (dtype == DType::f32 || !std::isfinite(value)) return value;
  const float limit = dtype == DType::f16 ? kMaxF16 : kMaxBf16;
  return std::clamp(value, -limit, limit);
}

/// Stores element i, rounded to nearest even.
GRADWIRE_HD inline void store_f32(void* data, DType dtype, std::size_t i, float value) noexcept {
  if (dtype == DType::f32) {
    std::memcpy(static_cast<std::byte*>(data) + 4 * i, &value, 4);
    return;
  }
  const std::uint16_t bits = dtype == DType::f16 ? f16_from_f32(value) : bf16_from_f32(value);
  std::memcpy(static_cast<std::byte*>(data) + 2 * i, &bits, 2);
}

}  // namespace gradwire
