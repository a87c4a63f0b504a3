#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace gradwire {

enum class Norm : std::uint8_t { linf = 0, l2 = 1, minmax = 2 };
enum class Round : std::uint8_t { nearest = 0, stochastic = 1 };

/// What `quantize(...)` is told. docs/wire-format.md section 1.2 has the arithmetic.
struct QuantizeParams {
  static constexpr std::size_t kMaxBucket = 8192;

  std::uint32_t bits = 4;
  std::uint32_t bucket = 512;
  Norm norm = Norm::linf;
  Round round = Round::nearest;

  /// The frame's options field.
  [[nodiscard]] constexpr std::uint32_t options() const noexcept {
    return bits | static_cast<std::uint32_t>(norm) << 8 | (bucket / 32) << 16 | static_cast<std::uint32_t>(round) << 25;
  }
  /// And back.
  [[nodiscard]] static constexpr QuantizeParams from_options(std::uint32_t options) noexcept {
    return {options & 0xff, (options >> 16 & 0x1ff) * 32, static_cast<Norm>(options >> 8 & 0xff),
            static_cast<Round>(options >> 25 & 1)};
  }
};

/// Where the parts of a payload lie.
struct QuantizeLayout {
  static constexpr std::size_t kRow = 16;

  QuantizeParams params;
  std::size_t count = 0;

  [[nodiscard]] constexpr std::size_t buckets() const noexcept { return (count + params.bucket - 1) / params.bucket; }
  [[nodiscard]] constexpr std::size_t rows() const noexcept { return (count + kRow - 1) / kRow; }
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
    std::size_t offset = scale_bytes();
    for (std::size_t w = 8; w > width; w /= 2) offset += has_plane(w) ? plane_bytes(w) : 0;
    return offset;
  }
  [[nodiscard]] constexpr std::size_t payload_bytes() const noexcept { return plane_offset(0); }
};

/// How values of one bucket become codes and back.
struct BucketScale {
  float unit = 0;
  float inv = 0;
  float min = 0;
};

/// The three shapes of the table in docs/wire-format.md.
enum class CodeShape { levels, sign, steps };

[[nodiscard]] constexpr CodeShape shape_of(const QuantizeParams& params) noexcept {
  if (params.norm == Norm::minmax) return CodeShape::steps;
  return params.bits == 1 ? CodeShape::sign : CodeShape::levels;
}

/// L of the table for `levels`; 1 for `sign`.
[[nodiscard]] constexpr std::int32_t levels_of(const QuantizeParams& params) noexcept {
  return params.bits == 1 ? 1 : (1 << (params.bits - 1)) - 1;
}

[[nodiscard]] constexpr std::int32_t top_code(const QuantizeParams& params) noexcept {
  switch (shape_of(params)) {
    case CodeShape::levels: return 2 * levels_of(params);
    case CodeShape::sign: return 1;
    case CodeShape::steps: return (1 << params.bits) - 1;
  }
  return 0;
}

/// Norms below this count as zero. Squares of smaller elements lose bits or vanish in f32.
[[nodiscard]] constexpr float flat_below(Norm norm) noexcept { return norm == Norm::l2 ? 0x1p-60f : 0x1p-100f; }

/// Scale of a bucket of norm `s` (minmax: of range `s` above `min`). False when s is not finite or above 2^126.
[[nodiscard]] inline bool scale_from_norm(const QuantizeParams& params, float s, float min,
                                          BucketScale& scale) noexcept {
  if (!(s <= 0x1p126f)) return false;
  const auto parts = static_cast<float>(shape_of(params) == CodeShape::steps ? top_code(params) : levels_of(params));
  const bool flat = s < flat_below(params.norm);
  scale.unit = flat ? 0.0f : s / parts;
  scale.inv = flat ? 0.0f : parts / s;
  scale.min = min + 0.0f;  // -0 becomes +0
  return true;
}

/// The last step of the l2 norm: 16 partial sums of squares, pairwise. Destroys them.
[[nodiscard]] inline float norm_from_partial_sums(float* sums) noexcept {
  for (std::size_t half = 8; half != 0; half /= 2)
    for (std::size_t j = 0; j < half; ++j) sums[j] += sums[j + half];
  return std::sqrt(sums[0]);
}

}  // namespace gradwire
