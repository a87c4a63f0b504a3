#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/device/grid.hpp"
#include "compress/device/jobs.hpp"
#include "compress/device/plane_tile.hpp"
#include "compress/device/quantize_scale.hpp"
#include "compress/device/tile_random.hpp"
#include "compress/kernels.hpp"
#include "compress/quantize_codes.hpp"

/// \file What single threads of the quantisers' kernels do (docs/adr/0010): no thread waits for another in here, so
/// that tests run them on the host, one after another. Packing is by planes; frames start at multiples of 16 bytes.
namespace gradwire::device {

using QuantizeTile = PlaneTile;

[[nodiscard]] GRADWIRE_HD inline BucketNorms tile_norms(const QuantizeLayout& layout, const QuantizeTile& tile,
                                                        const TileValues& values) {
  BucketNorms norms;
  GRADWIRE_UNROLL
  for (std::size_t row = 0; row < QuantizeTile::kRows; ++row) {
    const std::size_t n = row_size(layout, tile, row);
    GRADWIRE_UNROLL
    for (std::size_t column = 0; column < QuantizeTile::kColumns; ++column)
      if (column < n) norms.see(values.at[row][column]);
  }
  return norms;
}

/// Codes of `n` elements beside one another, a byte each; stores their residuals.
[[nodiscard]] GRADWIRE_HD inline std::uint32_t encode_row(const kernels::QuantizeEncode& job, std::size_t first,
                                                          std::size_t n, const float* values, const BucketScale& scale,
                                                          TileRandom& random) {
  const bool draws = job.params.round == Rounding::stochastic;
  std::uint32_t codes = 0;
  float lost[kRowPart];
  GRADWIRE_UNROLL
  for (std::size_t column = 0; column < kRowPart; ++column) {
    if (column >= n) continue;
    const float x = values[column];
    const std::uint16_t r = draws ? random.at(job.key.first_element + first + column) : std::uint16_t{0};
    const int code = code_of(job.params, scale, x, r, job.codebook);
    codes |= static_cast<std::uint32_t>(code) << 8 * column;
    lost[column] = x - value_of(job.params, scale, code, job.codebook);
  }
  if (job.residual != nullptr) store_row(job.residual, DType::f32, first, n, lost);
  return codes;
}

/// Codes and residuals of a tile whose values are there; `scale_of(row)` is that of the row's bucket. Residuals may
/// take the place of x.
template <class ScaleOf>
GRADWIRE_HD TileCodes pack_tile(const kernels::QuantizeEncode& job, const QuantizeTile& tile, const TileValues& values,
                                ScaleOf scale_of) {
  const QuantizeLayout layout{job.params, job.x.count};
  TileRandom random(job.key, job.key.first_element + tile.element(0, 0));
  TileCodes codes{};
  GRADWIRE_UNROLL
  for (std::size_t row = 0; row < QuantizeTile::kRows; ++row) {
    const std::size_t n = row_size(layout, tile, row);
    if (n == 0) continue;
    codes.row[row] = encode_row(job, tile.element(row, 0), n, values.at[row], scale_of(row), random);
  }
  store_codes(layout, tile, codes, job.payload);
  return codes;
}

/// A tile whose buckets' scales are known. `scales`: of all buckets.
GRADWIRE_HD inline void encode_tile(const kernels::QuantizeEncode& job, std::size_t index, const BucketScale* scales) {
  const QuantizeLayout layout{job.params, job.x.count};
  const QuantizeTile tile = QuantizeTile::at(index);
  pack_tile(job, tile, load_tile(layout, job.x, tile),
            [&](std::size_t row) { return scales[tile.element(row, 0) / job.params.bucket]; });
}

/// Whether tiles lie within buckets: then the threads of a bucket's tiles can find its scale among themselves, and x is
/// read once.
[[nodiscard]] constexpr bool has_whole_tiles(const QuantizeParams& params) noexcept {
  return params.bucket % (QuantizeTile::kRows * QuantizeLayout::kRow) == 0;
}
/// Of a bucket; at most 256.
[[nodiscard]] constexpr std::size_t tiles_a_bucket(const QuantizeParams& params) noexcept {
  return params.bucket / (QuantizeTile::kRows * QuantizeTile::kColumns);
}

/// Blocks of threads that a frame of whole tiles takes, each with the tiles of whole buckets.
[[nodiscard]] constexpr std::size_t bucket_items(const QuantizeLayout& layout) noexcept {
  const std::size_t of_block = kBlockThreads / tiles_a_bucket(layout.params);
  return layout.count == 0 ? 1 : (layout.buckets() + of_block - 1) / of_block;
}
/// And with kBucketLanes threads a bucket.
[[nodiscard]] constexpr std::size_t warp_items(const QuantizeLayout& layout) noexcept {
  return blocks_of(layout.buckets() * kBucketLanes);
}

/// Values of `n` elements beside one another, instead of `values` or added to them.
GRADWIRE_HD inline void decode_row(const QuantizeLayout& layout, const std::byte* payload, std::size_t first,
                                   std::size_t n, std::uint32_t codes, Write write, float* values) {
  const auto* const codebook = reinterpret_cast<const float*>(payload);  // read for learned levels only
  const std::byte* const scales = payload + layout.scale_offset();
  const std::size_t at = first / layout.params.bucket * layout.scale_floats();
  BucketScale scale;
  scale.unit = load_element(scales, DType::f32, at);
  if (layout.params.norm == Norm::minmax) scale.min = load_element(scales, DType::f32, at + 1);
  GRADWIRE_UNROLL
  for (std::size_t column = 0; column < kRowPart; ++column) {
    if (column >= n) continue;
    const int code = static_cast<int>(codes >> 8 * column & 0xffu);
    const float value = value_of(layout.params, scale, code, codebook);
    values[column] = write == Write::add ? values[column] + value : value;
  }
}

/// Values of a tile's elements into y.
GRADWIRE_HD inline void decode_tile(const kernels::QuantizeDecode& job, std::size_t index) {
  const QuantizeLayout layout{job.params, job.y.count};
  const QuantizeTile tile = QuantizeTile::at(index);
  const TileCodes codes = unpack_tile(layout, job.payload, tile);
  GRADWIRE_UNROLL
  for (std::size_t row = 0; row < QuantizeTile::kRows; ++row) {
    const std::size_t n = row_size(layout, tile, row);
    if (n == 0) continue;
    const std::size_t first = tile.element(row, 0);
    float values[QuantizeTile::kColumns] = {};
    if (job.write == Write::add) load_row(job.y.data, job.y.dtype, first, n, values);
    decode_row(layout, job.payload, first, n, codes.row[row], job.write, values);
    store_row(job.y.data, job.y.dtype, first, n, values);
  }
}

[[nodiscard]] GRADWIRE_HD inline TileValues sum_tile(const QuantizeSum& sum, const SumMessages& messages,
                                                     const QuantizeTile& tile) {
  const QuantizeLayout layout{sum.own.params, sum.own.x.count};
  TileValues values = load_tile(layout, sum.own.x, tile);
  for (std::uint32_t m = 0; m < messages.count; ++m) {
    const std::byte* const payload = messages.payload(m, sum.first);
    const TileCodes codes = unpack_tile(layout, payload, tile);
    GRADWIRE_UNROLL
    for (std::size_t row = 0; row < QuantizeTile::kRows; ++row) {
      const std::size_t n = row_size(layout, tile, row);
      if (n == 0) continue;
      decode_row(layout, payload, tile.element(row, 0), n, codes.row[row], Write::add, values.at[row]);
    }
  }
  return values;
}

/// The job of one of a run's frames.
[[nodiscard]] GRADWIRE_HD inline kernels::QuantizeEncode job_of(const QuantizeEncodeRun& frames, std::size_t frame) {
  kernels::QuantizeEncode job = frames.job;
  job.x.data = static_cast<const std::byte*>(job.x.data) + frame * frames.run.elements * size_of(job.x.dtype);
  job.payload += frame * frames.run.bytes;
  if (job.residual != nullptr) job.residual += frame * frames.run.elements;
  job.key.first_element += frame * frames.run.elements;
  return job;
}
[[nodiscard]] GRADWIRE_HD inline kernels::QuantizeDecode job_of(const QuantizeDecodeRun& frames, std::size_t frame) {
  kernels::QuantizeDecode job = frames.job;
  job.payload += frame * frames.run.bytes;
  job.y.data = static_cast<std::byte*>(job.y.data) + frame * frames.run.elements * size_of(job.y.dtype);
  return job;
}

}  // namespace gradwire::device
