#pragma once
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/host_device.hpp"
#include "compress/minifloat_params.hpp"

/// \file Codes of single elements of `f8`, `mx*` and `nvfp4`: the arithmetic of docs/wire-format.md 1.6, which the
/// scalar loops and device code share.
namespace gradwire::minifloat {

/// How the number of a code's steps is found from their fraction.
struct RoundingDraw {
  Rounding round;
  float u;  ///< not used when rounding to nearest
};

/// NaN has a number's code: what shares a scale with it has the scale NaN.
[[nodiscard]] GRADWIRE_HD inline std::uint32_t code_of(const MinifloatShape& shape, float v,
                                                       const RoundingDraw& rounding) {
  const float most = shape.max();
  const float magnitude = std::fabs(v) < most ? std::fabs(v) : most;
  const int exponent_of = static_cast<int>(std::bit_cast<std::uint32_t>(magnitude) >> 23) - 127;
  const int exponent = exponent_of < shape.least_exponent() ? shape.least_exponent() : exponent_of;
  const float steps = magnitude * MinifloatShape::power_of_two(shape.mantissa_bits - exponent);  // exact
  const float rounded = rounding.round == Rounding::nearest ? std::rint(steps) : std::trunc(steps + rounding.u);
  // One step more than a whole mantissa carries into the exponent, as it should.
  const auto code = static_cast<std::uint32_t>(rounded) +
                    (static_cast<std::uint32_t>(exponent - shape.least_exponent()) << shape.mantissa_bits);
  return code | (std::signbit(v) ? shape.sign_bit() : 0);
}

/// Code of a group's scale, for its largest magnitude in units of the span: rounded up when elements are to be
/// unbiased, so that none of them saturates.
[[nodiscard]] GRADWIRE_HD inline std::uint32_t group_scale_of(float scale, Rounding round) {
  constexpr MinifloatShape kShape = shape_of(MinifloatFormat::e4m3);
  const std::uint32_t code = code_of(kShape, scale, {Rounding::nearest, 0});
  if (round == Rounding::nearest || !(kShape.value(code) < scale)) return code;
  return code < kShape.top ? code + 1 : code;
}

[[nodiscard]] GRADWIRE_HD inline MinifloatUnit unit_of_group(std::uint32_t code, float span_unit) {
  const float unit = shape_of(MinifloatFormat::e4m3).value(code) * span_unit;
  return {unit, unit == 0 ? 0 : 1.0f / unit};
}

}  // namespace gradwire::minifloat
