#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "base/half.hpp"
#include "base/host_device.hpp"
#include "compress/kernels.hpp"
#include "compress/quantize_codes.hpp"

/// \file What single threads of the quantisers' kernels do (docs/adr/0010): no thread waits for another in here, so
/// that tests run them on the host, one after another. Packing is by planes; frames start at multiples of 16 bytes.
namespace gradwire::device {

/// The elements whose codes one thread packs or unpacks: 8 rows by 4 columns of the planes, which are whole 32-bit
/// words of each plane, whatever the number of bits.
struct QuantizeTile {
  static constexpr std::size_t kRows = 8;
  static constexpr std::size_t kColumns = 4;
  static constexpr std::size_t kAcross = QuantizeLayout::kRow / kColumns;  ///< tiles beside one another

  std::size_t first_row;
  std::size_t first_column;

  /// How many a frame has.
  [[nodiscard]] static constexpr std::size_t count(const QuantizeLayout& layout) noexcept {
    return (layout.rows() + kRows - 1) / kRows * kAcross;
  }
  [[nodiscard]] static constexpr QuantizeTile at(std::size_t index) noexcept {
    return {index / kAcross * kRows, index % kAcross * kColumns};
  }
  [[nodiscard]] constexpr std::size_t element(std::size_t row, std::size_t column) const noexcept {
    return (first_row + row) * QuantizeLayout::kRow + first_column + column;
  }
  /// Where the tile's words of the plane of `width` lie in the payload: `width` of them, 16 bytes apart.
  [[nodiscard]] constexpr std::size_t word_offset(const QuantizeLayout& layout, std::size_t width) const noexcept {
    return layout.plane_offset(width) + first_row / kRows * width * QuantizeLayout::kRow + first_column;
  }
  /// Words of that plane that are there: fewer where the frame ends in the tile.
  [[nodiscard]] constexpr std::size_t words(const QuantizeLayout& layout, std::size_t width) const noexcept {
    const std::size_t rows_a_word = 8 / width;
    const std::size_t rows = layout.rows() - first_row;
    return rows >= kRows ? width : (rows + rows_a_word - 1) / rows_a_word;
  }
};

/// Words are aligned: frames and planes start at multiples of 16 bytes, tiles at multiples of 4.
[[nodiscard]] GRADWIRE_HD inline std::uint32_t load_word(const std::byte* at) {
  std::uint32_t word;
#ifdef __CUDA_ARCH__
  word = *reinterpret_cast<const std::uint32_t*>(at);
#else
  std::memcpy(&word, at, sizeof word);
#endif
  return word;
}
GRADWIRE_HD inline void store_word(std::byte* at, std::uint32_t word) {
#ifdef __CUDA_ARCH__
  *reinterpret_cast<std::uint32_t*>(at) = word;
#else
  std::memcpy(at, &word, sizeof word);
#endif
}

/// What one of the 32 lanes that look for a bucket's scale has seen of it.
struct BucketNorms {
  std::uint32_t most_bits = 0;  ///< of the largest magnitude: as bits, NaN is above Inf is above all else
  float min = std::numeric_limits<float>::infinity();
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;  ///< of lanes below 16: that of the lane's column, in order of rows

  GRADWIRE_HD void join(const BucketNorms& other) {  // but for sums
    most_bits = most_bits < other.most_bits ? other.most_bits : most_bits;
    min = other.min < min ? other.min : min;
    max = max < other.max ? other.max : max;
  }
};
inline constexpr std::size_t kBucketLanes = 32;
inline constexpr std::size_t kSumLanes = 16;

/// Elements of a bucket: `bucket`, or what is left.
[[nodiscard]] constexpr std::size_t bucket_size(const QuantizeLayout& layout, std::size_t bucket) noexcept {
  const std::size_t left = layout.count - bucket * layout.params.bucket;
  return left < layout.params.bucket ? left : layout.params.bucket;
}

[[nodiscard]] GRADWIRE_HD inline BucketNorms lane_norms(const QuantizeLayout& layout, const ConstTensor& x,
                                                        std::size_t bucket, std::size_t lane) {
  const std::size_t first = bucket * layout.params.bucket;
  const std::size_t size = bucket_size(layout, bucket);
  BucketNorms norms;
  for (std::size_t i = lane; i < size; i += kBucketLanes) {
    const float value = load_f32(x.data, x.dtype, first + i);
    norms.join({std::bit_cast<std::uint32_t>(value) & 0x7fff'ffffu, value, value, 0});
  }
  const Norm norm = layout.params.norm;
  if (norm == Norm::linf || norm == Norm::minmax || lane >= kSumLanes) return norms;
  for (std::size_t i = lane; i < size; i += kSumLanes) {
    const float value = load_f32(x.data, x.dtype, first + i);
    norms.sum += norm == Norm::mean ? std::fabs(value) : value * value;
  }
  return norms;
}

/// Of all lanes' `norms`, joined, and the sums of lanes 0 to 15. False where the bucket has no finite scale.
[[nodiscard]] GRADWIRE_HD inline bool find_scale(const QuantizeParams& params, const BucketNorms& norms,
                                                 const float* sums, std::size_t size, BucketScale& scale) {
  if (norms.most_bits >= 0x7f80'0000u) return false;
  const auto most = std::bit_cast<float>(norms.most_bits);
  switch (params.norm) {
    case Norm::minmax: return scale_from_norm(params, norms.max - norms.min, norms.min, scale);
    case Norm::mean: return scale_from_norm(params, mean_from_partial_sums(sums, size), 0, scale);
    case Norm::l2: return scale_from_norm(params, norm_from_partial_sums(sums), 0, scale);
    case Norm::clipped:
      return scale_from_norm(params, clipped_norm(params.clip, most, norm_from_partial_sums(sums), size), 0, scale);
    case Norm::linf: break;
  }
  return scale_from_norm(params, most, 0, scale);
}

/// Into the payload. The thread of the last bucket also fills up what is left of the scales' last 16 bytes.
GRADWIRE_HD inline void store_scale(const QuantizeLayout& layout, std::size_t bucket, const BucketScale& scale,
                                    std::byte* payload) {
  std::byte* const scales = payload + layout.scale_offset();
  const std::size_t floats = layout.scale_floats();
  store_word(scales + bucket * floats * sizeof(float), std::bit_cast<std::uint32_t>(scale.unit));
  if (floats == 2) store_word(scales + (bucket * floats + 1) * sizeof(float), std::bit_cast<std::uint32_t>(scale.min));
  if (bucket + 1 < layout.buckets()) return;
  for (std::size_t at = layout.buckets() * floats * sizeof(float); at < layout.scale_bytes(); at += sizeof(float))
    store_word(scales + at, 0);
}

/// Codes and residuals of a tile's elements. `scales`: of all buckets. Residuals may take the place of x.
GRADWIRE_HD inline void encode_tile(const kernels::QuantizeEncode& job, std::size_t index, const BucketScale* scales) {
  const QuantizeLayout layout{job.params, job.x.count};
  const QuantizeTile tile = QuantizeTile::at(index);
  const RandomStream random(job.key);
  std::uint32_t codes[QuantizeTile::kRows] = {};  // a byte for each column
  for (std::size_t row = 0; row < QuantizeTile::kRows; ++row) {
    for (std::size_t column = 0; column < QuantizeTile::kColumns; ++column) {
      const std::size_t i = tile.element(row, column);
      if (i >= layout.count) break;
      const BucketScale& scale = scales[i / job.params.bucket];
      const float x = load_f32(job.x.data, job.x.dtype, i);
      const int code = code_of(job.params, scale, x, random.at(job.key.first_element + i), job.codebook);
      codes[row] |= static_cast<std::uint32_t>(code) << 8 * column;
      if (job.residual != nullptr)
        store_f32(job.residual, DType::f32, i, x - value_of(job.params, scale, code, job.codebook));
    }
  }
  unsigned code_bit = 0;
  for (std::size_t width = 8; width != 0; width /= 2) {
    if (!layout.has_plane(width)) continue;
    const std::uint32_t mask = ((1u << width) - 1u) * 0x0101'0101u;
    const std::size_t rows_a_word = 8 / width;
    const std::size_t words = tile.words(layout, width);
    std::byte* const out = job.payload + tile.word_offset(layout, width);
    for (std::size_t w = 0; w < words; ++w) {
      std::uint32_t word = 0;
      for (std::size_t r = 0; r < rows_a_word; ++r)
        word |= (codes[w * rows_a_word + r] >> code_bit & mask) << width * r;
      store_word(out + w * QuantizeLayout::kRow, word);
    }
    code_bit += static_cast<unsigned>(width);
  }
}

/// Values of a tile's elements into y.
GRADWIRE_HD inline void decode_tile(const kernels::QuantizeDecode& job, std::size_t index) {
  const QuantizeLayout layout{job.params, job.y.count};
  const QuantizeTile tile = QuantizeTile::at(index);
  std::uint32_t codes[QuantizeTile::kRows] = {};
  unsigned code_bit = 0;
  for (std::size_t width = 8; width != 0; width /= 2) {
    if (!layout.has_plane(width)) continue;
    const std::uint32_t mask = ((1u << width) - 1u) * 0x0101'0101u;
    const std::size_t rows_a_word = 8 / width;
    const std::size_t words = tile.words(layout, width);
    const std::byte* const in = job.payload + tile.word_offset(layout, width);
    for (std::size_t w = 0; w < words; ++w) {
      const std::uint32_t word = load_word(in + w * QuantizeLayout::kRow);
      for (std::size_t r = 0; r < rows_a_word; ++r)
        codes[w * rows_a_word + r] |= (word >> width * r & mask) << code_bit;
    }
    code_bit += static_cast<unsigned>(width);
  }
  const auto* const codebook = reinterpret_cast<const float*>(job.payload);  // read for learned levels only
  const std::byte* const scales = job.payload + layout.scale_offset();
  for (std::size_t row = 0; row < QuantizeTile::kRows; ++row) {
    for (std::size_t column = 0; column < QuantizeTile::kColumns; ++column) {
      const std::size_t i = tile.element(row, column);
      if (i >= layout.count) return;
      const std::size_t at = i / job.params.bucket * layout.scale_floats();
      BucketScale scale;
      scale.unit = load_f32(scales, DType::f32, at);
      if (job.params.norm == Norm::minmax) scale.min = load_f32(scales, DType::f32, at + 1);
      const float value = value_of(job.params, scale, static_cast<int>(codes[row] >> 8 * column & 0xffu), codebook);
      const float before = job.write == Write::add ? load_f32(job.y.data, job.y.dtype, i) : 0;
      store_f32(job.y.data, job.y.dtype, i, saturate(job.write == Write::add ? before + value : value, job.y.dtype));
    }
  }
}

}  // namespace gradwire::device
