#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

#include "compress/quantize_params.hpp"

namespace gradwire {

/// Names of the OCP formats; the values are those of the frame's options.
enum class MinifloatFormat : std::uint8_t { e2m1 = 0, e2m3 = 1, e3m2 = 2, e4m3 = 3, e5m2 = 4 };

/// A format's fields: a sign, an exponent with the usual bias, a mantissa; zero and subnormals as in IEEE 754, no
/// infinities. Codes above `top`, where there are any, are NaN in the OCP specifications: they are never written.
struct MinifloatShape {
  int exponent_bits;
  int mantissa_bits;
  std::uint32_t top;  ///< code of the largest number

  [[nodiscard]] constexpr int bits() const noexcept { return 1 + exponent_bits + mantissa_bits; }
  [[nodiscard]] constexpr int bias() const noexcept { return (1 << (exponent_bits - 1)) - 1; }
  /// Exponent of the least normal number, and of all subnormal ones.
  [[nodiscard]] constexpr int least_exponent() const noexcept { return 1 - bias(); }
  [[nodiscard]] constexpr int top_exponent() const noexcept { return static_cast<int>(top >> mantissa_bits) - bias(); }
  [[nodiscard]] constexpr std::uint32_t sign_bit() const noexcept { return 1u << (exponent_bits + mantissa_bits); }
  /// The largest number.
  [[nodiscard]] constexpr float max() const noexcept { return value(top); }
  /// The number of a code. Codes above `top` continue the normal numbers.
  [[nodiscard]] constexpr float value(std::uint32_t code) const noexcept {
    const std::uint32_t field = (code & (sign_bit() - 1)) >> mantissa_bits;
    const std::uint32_t fraction = code & ((1u << mantissa_bits) - 1);
    const std::uint32_t implicit = field == 0 ? 0 : 1u << mantissa_bits;
    const int exponent = least_exponent() - mantissa_bits + (field == 0 ? 0 : static_cast<int>(field) - 1);
    const float magnitude = static_cast<float>(implicit | fraction) * power_of_two(exponent);
    return (code & sign_bit()) != 0 ? -magnitude : magnitude;
  }
  /// For exponents of normal f32 numbers.
  [[nodiscard]] static constexpr float power_of_two(int exponent) noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
  }
};

[[nodiscard]] constexpr MinifloatShape shape_of(MinifloatFormat format) noexcept {
  switch (format) {
    case MinifloatFormat::e2m1: return {2, 1, 0x07};
    case MinifloatFormat::e2m3: return {2, 3, 0x1f};
    case MinifloatFormat::e3m2: return {3, 2, 0x1f};
    case MinifloatFormat::e4m3: return {4, 3, 0x7e};
    case MinifloatFormat::e5m2: return {5, 2, 0x7b};
  }
  return {};
}

/// Who shares which scale.
enum class MinifloatScale : std::uint8_t {
  f32 = 0,    ///< `f8`: one f32 a block
  e8m0 = 1,   ///< `mx*`: one power of two a block of 32
  nvfp4 = 2,  ///< `nvfp4`: one E4M3 a group of 16, times one f32 a span
};

/// What `f8(...)`, `mx4(...)`, `mx6(...)`, `mx8(...)` and `nvfp4(...)` are told. docs/wire-format.md has the
/// arithmetic.
struct MinifloatParams {
  static constexpr std::size_t kMaxBlock = 8192;
  static constexpr std::uint32_t kMxBlock = 32;
  /// Elements of an E4M3 scale of `nvfp4`.
  static constexpr std::size_t kGroup = 16;

  MinifloatFormat format = MinifloatFormat::e4m3;
  MinifloatScale scale = MinifloatScale::f32;
  std::uint32_t block = 128;  ///< elements that share metadata; nvfp4: its span
  Rounding round = Rounding::nearest;

  [[nodiscard]] constexpr MinifloatShape shape() const noexcept { return shape_of(format); }
  /// The frame's options field.
  [[nodiscard]] constexpr std::uint32_t options() const noexcept {
    return static_cast<std::uint32_t>(format) | static_cast<std::uint32_t>(scale) << 8 | (block / 32) << 16 |
           static_cast<std::uint32_t>(round) << 25;
  }
};

/// Where the parts of a payload lie.
struct MinifloatLayout {
  static constexpr std::size_t kRow = 16;

  MinifloatParams params;
  std::size_t count = 0;

  [[nodiscard]] constexpr std::size_t blocks() const noexcept { return (count + params.block - 1) / params.block; }
  [[nodiscard]] constexpr std::size_t rows() const noexcept { return (count + kRow - 1) / kRow; }
  /// Bytes of the scales of blocks, without padding.
  [[nodiscard]] constexpr std::size_t block_scale_bytes() const noexcept {
    return blocks() * (params.scale == MinifloatScale::e8m0 ? 1 : sizeof(float));
  }
  /// Offset of nvfp4's scales of groups, of which each row has one.
  [[nodiscard]] constexpr std::size_t group_scale_offset() const noexcept { return align(block_scale_bytes()); }
  [[nodiscard]] constexpr std::size_t group_scale_bytes() const noexcept {
    return params.scale == MinifloatScale::nvfp4 ? rows() : 0;
  }
  [[nodiscard]] constexpr std::size_t plane_bytes(std::size_t width) const noexcept {
    return (rows() * width + 7) / 8 * kRow;
  }
  [[nodiscard]] constexpr bool has_plane(std::size_t width) const noexcept {
    return (static_cast<std::size_t>(params.shape().bits()) & width) != 0;
  }
  /// Offset of the plane of `width` (8, 4 or 2) in the payload; of what follows the planes for width 0.
  [[nodiscard]] constexpr std::size_t plane_offset(std::size_t width) const noexcept {
    std::size_t offset = group_scale_offset() + align(group_scale_bytes());
    for (std::size_t w = 8; w > width; w /= 2) offset += has_plane(w) ? plane_bytes(w) : 0;
    return offset;
  }
  [[nodiscard]] constexpr std::size_t payload_bytes() const noexcept { return plane_offset(0); }

 private:
  [[nodiscard]] static constexpr std::size_t align(std::size_t bytes) noexcept { return (bytes + 15) / 16 * 16; }
};

/// Elements are multiplied by `inv` before they are rounded, and by `unit` when read.
struct MinifloatUnit {
  float unit = 0;
  float inv = 0;
};

/// Blocks whose largest magnitude is below this count as zero.
inline constexpr float kMinifloatFlat = 0x1p-100f;

/// The largest magnitude that has a scale. Powers of two reach all finite numbers.
[[nodiscard]] constexpr float most_magnitude(MinifloatScale scale) noexcept {
  return scale == MinifloatScale::e8m0 ? 0x1.fffffep127f : 0x1p126f;
}

/// `f8`: the largest magnitude becomes the format's largest number.
[[nodiscard]] constexpr MinifloatUnit unit_of_block(float most, const MinifloatShape& shape) noexcept {
  if (most < kMinifloatFlat) return {};
  return {most / shape.max(), shape.max() / most};
}

/// `mx*`: the scale's byte, 127 + floor(log2 most) - emax. A flat block has the scale 1: it is read fastest.
[[nodiscard]] constexpr std::uint8_t e8m0_of_block(float most, const MinifloatShape& shape) noexcept {
  if (most < kMinifloatFlat) return 127;
  return static_cast<std::uint8_t>((std::bit_cast<std::uint32_t>(most) >> 23) -
                                   static_cast<std::uint32_t>(shape.top_exponent()));
}
[[nodiscard]] constexpr float value_of_e8m0(std::uint8_t scale) noexcept {
  if (scale == 0) return 0x1p-127f;
  if (scale == 0xff) return std::bit_cast<float>(0x7fc0'0000u);  // NaN
  return std::bit_cast<float>(static_cast<std::uint32_t>(scale) << 23);
}
[[nodiscard]] constexpr MinifloatUnit unit_of_e8m0(float most, std::uint8_t scale) noexcept {
  if (most < kMinifloatFlat) return {1, 0};
  return {value_of_e8m0(scale), value_of_e8m0(static_cast<std::uint8_t>(254 - scale))};
}

/// `nvfp4`: the span's unit is such that its largest group has the largest scale; inv turns a group's largest magnitude
/// into its scale.
[[nodiscard]] constexpr MinifloatUnit unit_of_span(float most) noexcept {
  constexpr float kMaxScale = shape_of(MinifloatFormat::e4m3).max();
  constexpr float kMaxElement = shape_of(MinifloatFormat::e2m1).max();
  if (most < kMinifloatFlat) return {};
  return {most / (kMaxScale * kMaxElement), kMaxScale / most};
}

}  // namespace gradwire
