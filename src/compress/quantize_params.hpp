#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/host_device.hpp"

namespace gradwire {

/// `mean`, of magnitudes, is `sign`'s; `clipped`, the largest magnitude but at most clip * root mean square,
/// `ternary`'s.
enum class Norm : std::uint8_t { linf = 0, l2 = 1, minmax = 2, mean = 3, clipped = 4 };
enum class Rounding : std::uint8_t { nearest = 0, stochastic = 1 };
enum class Levels : std::uint8_t { uniform = 0, exponential = 1, learned = 2, ternary = 3 };
/// Planes of bits, or five ternary codes in a byte.
enum class Packing : std::uint8_t { planes = 0, trits = 1 };

/// What `quantize(...)`, `sign(...)` and `ternary(...)` are told. docs/wire-format.md has the arithmetic.
struct QuantizeParams {
  static constexpr std::size_t kMaxBucket = 8192;

  std::uint32_t bits = 4;
  std::uint32_t bucket = 512;
  Norm norm = Norm::linf;
  Rounding round = Rounding::nearest;
  Levels levels = Levels::uniform;
  Packing packing = Packing::planes;
  float clip = 0;  ///< for Norm::clipped

  /// The frame's options field. What only the encoder needs to know of `ternary` and of learned levels is not in it.
  [[nodiscard]] constexpr std::uint32_t options() const noexcept {
    const std::uint32_t size = (bucket / 32) << 16;
    if (levels == Levels::ternary) return static_cast<std::uint32_t>(packing) | size;
    if (levels == Levels::learned) return bits | size;
    return bits | static_cast<std::uint32_t>(norm) << 8 | size | static_cast<std::uint32_t>(round) << 25 |
           static_cast<std::uint32_t>(levels) << 26;
  }
  /// And back, of the codec quantize.
  [[nodiscard]] static constexpr QuantizeParams from_options(std::uint32_t options) noexcept {
    return {options & 0xff, (options >> 16 & 0x1ff) * 32, static_cast<Norm>(options >> 8 & 0xff),
            static_cast<Rounding>(options >> 25 & 1), static_cast<Levels>(options >> 26 & 1)};
  }
};

/// Where the parts of a payload lie.
struct QuantizeLayout {
  static constexpr std::size_t kRow = 16;
  static constexpr std::size_t kTritRows = 5;  ///< rows of ternary codes that share a unit of 16 bytes

  QuantizeParams params;
  std::size_t count = 0;

  [[nodiscard]] constexpr std::size_t buckets() const noexcept { return (count + params.bucket - 1) / params.bucket; }
  [[nodiscard]] constexpr std::size_t rows() const noexcept { return (count + kRow - 1) / kRow; }
  /// Levels of `learned`, as f32, come first.
  [[nodiscard]] constexpr std::size_t scale_offset() const noexcept {
    return params.levels == Levels::learned ? (std::size_t{1} << params.bits) * sizeof(float) : 0;
  }
  /// f32 values a bucket's scale takes.
  [[nodiscard]] constexpr std::size_t scale_floats() const noexcept { return params.norm == Norm::minmax ? 2 : 1; }
  [[nodiscard]] constexpr std::size_t scale_bytes() const noexcept {
    return (buckets() * scale_floats() * sizeof(float) + 15) / 16 * 16;
  }
  [[nodiscard]] constexpr std::size_t plane_bytes(std::size_t width) const noexcept {
    const std::size_t rows_per_unit = 8 / width;
    return (rows() + rows_per_unit - 1) / rows_per_unit * 16;
  }
  [[nodiscard]] constexpr bool has_plane(std::size_t width) const noexcept { return (params.bits & width) != 0; }
  /// Offset of the plane of `width` in the payload; of what follows the planes for width 0.
  [[nodiscard]] constexpr std::size_t plane_offset(std::size_t width) const noexcept {
    std::size_t offset = scale_offset() + scale_bytes();
    for (std::size_t w = 8; w > width; w /= 2) offset += has_plane(w) ? plane_bytes(w) : 0;
    return offset;
  }
  [[nodiscard]] constexpr std::size_t trit_offset() const noexcept { return plane_offset(8); }
  [[nodiscard]] constexpr std::size_t payload_bytes() const noexcept {
    if (params.packing == Packing::trits) return trit_offset() + (rows() + kTritRows - 1) / kTritRows * kRow;
    return plane_offset(0);
  }
};

/// How values of one bucket become codes and back.
struct BucketScale {
  float unit = 0;
  float inv = 0;
  float min = 0;
};

/// Of learned levels: the magnitude of the outermost ones, in bucket norms, is never less.
inline constexpr float kLeastOutermost = 0.125f;

/// Columns of the tables in docs/wire-format.md.
enum class CodeShape { levels, sign, steps, exponential, ternary, learned };

[[nodiscard]] constexpr CodeShape shape_of(const QuantizeParams& params) noexcept {
  switch (params.levels) {
    case Levels::exponential: return CodeShape::exponential;
    case Levels::learned: return CodeShape::learned;
    case Levels::ternary: return CodeShape::ternary;
    case Levels::uniform: break;
  }
  if (params.norm == Norm::minmax) return CodeShape::steps;
  return params.bits == 1 ? CodeShape::sign : CodeShape::levels;
}

/// L of the table: levels each side of 0; 1 for `sign`.
[[nodiscard]] constexpr std::int32_t levels_of(const QuantizeParams& params) noexcept {
  return params.bits == 1 ? 1 : (1 << (params.bits - 1)) - 1;
}

[[nodiscard]] constexpr std::int32_t top_code(const QuantizeParams& params) noexcept {
  switch (shape_of(params)) {
    case CodeShape::sign: return 1;
    case CodeShape::steps: return (1 << params.bits) - 1;
    default: return 2 * levels_of(params);
  }
}

/// Equal parts of the norm (minmax: of the range) that a unit is: 1 where levels are not equally spaced.
[[nodiscard]] constexpr std::int32_t parts_of(const QuantizeParams& params) noexcept {
  switch (shape_of(params)) {
    case CodeShape::levels: return levels_of(params);
    case CodeShape::steps: return top_code(params);
    default: return 1;
  }
}

/// Norms below this count as zero. Squares of smaller elements lose bits or vanish in f32.
inline constexpr float kFlatSquares = 0x1p-60f;
[[nodiscard]] constexpr float flat_below(Norm norm) noexcept { return norm == Norm::l2 ? kFlatSquares : 0x1p-100f; }

/// Scale of a bucket of norm `s` (minmax: of range `s` above `min`). False when s is not finite or above 2^126.
[[nodiscard]] GRADWIRE_HD inline bool scale_from_norm(const QuantizeParams& params, float s, float min,
                                                      BucketScale& scale) noexcept {
  if (!(s <= 0x1p126f)) return false;
  const auto parts = static_cast<float>(parts_of(params));
  const bool flat = s < flat_below(params.norm);
  scale.unit = flat ? 0.0f : s / parts;
  scale.inv = flat ? 0.0f : parts / s;
  scale.min = min + 0.0f;  // -0 becomes +0
  return true;
}

/// 16 partial sums, pairwise: 8 of them to the other 8, and so on.
[[nodiscard]] GRADWIRE_HD inline float add_partial_sums(const float* sums) noexcept {
  float halves[8];
  float quarters[4];
  for (std::size_t j = 0; j < 8; ++j) halves[j] = sums[j] + sums[j + 8];
  for (std::size_t j = 0; j < 4; ++j) quarters[j] = halves[j] + halves[j + 4];
  return (quarters[0] + quarters[2]) + (quarters[1] + quarters[3]);
}

/// The last steps of the norms that are sums over a bucket of n elements.
[[nodiscard]] GRADWIRE_HD inline float norm_from_partial_sums(const float* squares) noexcept {
  return std::sqrt(add_partial_sums(squares));
}
[[nodiscard]] GRADWIRE_HD inline float mean_from_partial_sums(const float* magnitudes, std::size_t n) noexcept {
  return add_partial_sums(magnitudes) / static_cast<float>(n);
}
[[nodiscard]] GRADWIRE_HD inline float clipped_norm(float clip, float linf, float l2, std::size_t n) noexcept {
  if (!(l2 <= 0x1p126f)) return HUGE_VALF;
  if (l2 < kFlatSquares) return 0;
  return std::fmin(linf, clip * (l2 / std::sqrt(static_cast<float>(n))));
}

}  // namespace gradwire
