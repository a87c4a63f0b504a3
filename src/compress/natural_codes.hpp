#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

#include "base/host_device.hpp"
#include "compress/powers.hpp"
#include "compress/quantize_params.hpp"

/// \file Codes of single elements of `natural`, and back: the arithmetic of docs/wire-format.md 1.4, which the scalar
/// loops and device code share.
namespace gradwire::natural {

/// Decodes to NaN. Only encoders on devices write it, which cannot refuse an element that is not finite.
inline constexpr std::uint8_t kNaNCode = 0x80;

/// `r`, the element's number of RandomStream, is not used when rounding to nearest.
[[nodiscard]] GRADWIRE_HD inline std::uint8_t code_of(Rounding round, float x, std::uint16_t r) {
  if (!std::isfinite(x)) return kNaNCode;
  const float v = std::fabs(x);
  const std::int32_t number =
      round == Rounding::nearest ? natural_powers().nearest(v) : natural_powers().stochastic(v, r);
  const int sign = number != 0 && std::signbit(x) ? 0x80 : 0;
  return static_cast<std::uint8_t>(sign | number);
}

[[nodiscard]] GRADWIRE_HD inline float value_of(std::uint8_t code) {
  if (code == kNaNCode) return std::bit_cast<float>(0x7fc0'0000u);
  const float power = natural_powers().power(code & 0x7f);
  return code > 0x80 ? -power : power;
}

}  // namespace gradwire::natural
