#pragma once
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "compress/device/memory.hpp"
#include "compress/quantize_params.hpp"

/// \file A bucket's scale, found by several threads: what each of them does.
namespace gradwire::device {

/// Of a bucket that has none: NaN, Inf or what is too large in it becomes NaN throughout.
inline constexpr BucketScale kNoScale{kNaN, kNaN, kNaN};

/// What one of the threads that look for a bucket's scale has seen of it.
struct BucketNorms {
  std::uint32_t most_bits = 0;  ///< magnitude_bits() of the largest magnitude
  float min = std::numeric_limits<float>::infinity();
  float max = -std::numeric_limits<float>::infinity();

  GRADWIRE_HD void see(float value) { join({magnitude_bits(value), value, value}); }
  GRADWIRE_HD void join(const BucketNorms& other) {
    most_bits = most_bits < other.most_bits ? other.most_bits : most_bits;
    min = other.min < min ? other.min : min;
    max = max < other.max ? other.max : max;
  }
};
inline constexpr std::size_t kBucketLanes = 32;

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
    norms.see(load_element(x.data, x.dtype, first + i));
  }
  return norms;
}

[[nodiscard]] constexpr bool needs_sums(Norm norm) noexcept { return norm != Norm::linf && norm != Norm::minmax; }

/// A bucket's partial sum of a column, 0 to 15, in order of rows: of magnitudes or squares, as its norm has it.
[[nodiscard]] GRADWIRE_HD inline float column_sum(const QuantizeLayout& layout, const ConstTensor& x,
                                                  std::size_t bucket, std::size_t column) {
  const std::size_t first = bucket * layout.params.bucket;
  const std::size_t size = bucket_size(layout, bucket);
  const bool magnitudes = layout.params.norm == Norm::mean;
  float sum = 0;
  for (std::size_t i = column; i < size; i += QuantizeLayout::kRow) {
    const float value = load_element(x.data, x.dtype, first + i);
    sum += magnitudes ? std::fabs(value) : value * value;
  }
  return sum;
}

/// Of all threads' `norms`, joined, and the column sums where needs_sums(). False where the bucket has no finite scale.
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

}  // namespace gradwire::device
