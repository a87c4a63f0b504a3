#pragma once
#include <bit>
#include <cstdint>

#include "compress/random.hpp"

namespace gradwire {

/// Rounding to powers of two, 0 among them, by the bits of an f32: what `natural` and exponential levels share.
/// Power number m, from 1 to `top`, is 2^(least + m - 1 - 127); number 0 is 0.
struct Powers {
  std::uint32_t least;  ///< exponent field of the least power
  std::int32_t top;

  /// How many least powers make 1.
  [[nodiscard]] constexpr float per_one() const noexcept { return value_of(254 - least); }

  /// The nearest power to v >= 0; from the middle between two, the larger.
  [[nodiscard]] constexpr std::int32_t nearest(float v) const noexcept {
    const float in_least = v * per_one();
    if (in_least < 1.0f) return in_least >= 0.5f ? 1 : 0;
    return number_of(std::bit_cast<std::uint32_t>(v) + 0x40'0000u);
  }

  /// One of v's neighbours; v is their expectation over r, a number of RandomStream.
  [[nodiscard]] constexpr std::int32_t stochastic(float v, std::uint16_t r) const noexcept {
    const float in_least = v * per_one();
    if (in_least < 1.0f) return static_cast<std::int32_t>(in_least + RandomStream::unit_interval(r));
    return number_of(std::bit_cast<std::uint32_t>(v) + r * 128u + 64u);
  }

  [[nodiscard]] constexpr float power(std::int32_t number) const noexcept {
    return number == 0 ? 0.0f : value_of(least - 1 + static_cast<std::uint32_t>(number));
  }

 private:
  [[nodiscard]] static constexpr float value_of(std::uint32_t exponent) noexcept {
    return std::bit_cast<float>(exponent << 23);
  }
  [[nodiscard]] constexpr std::int32_t number_of(std::uint32_t bits) const noexcept {
    const auto number = static_cast<std::int32_t>((bits >> 23) - (least - 1));
    return number < top ? number : top;
  }
};

/// Exponential levels of a norm: 1, 1/2, 1/4, ... and 0, `levels` of them beside 0.
[[nodiscard]] constexpr Powers exponential_levels(std::int32_t levels) noexcept {
  return {128u - static_cast<std::uint32_t>(levels), levels};
}

/// 2^-90 .. 2^36: see docs/wire-format.md.
[[nodiscard]] constexpr Powers natural_powers() noexcept { return {37, 127}; }

}  // namespace gradwire
