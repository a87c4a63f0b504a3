#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/device/jobs.hpp"
#include "compress/device/memory.hpp"
#include "compress/device/quantize_scale.hpp"
#include "compress/kernels.hpp"
#include "compress/quantize_codes.hpp"

/// \file What single threads of the quantisers' kernels do (docs/adr/0010): no thread waits for another in here, so
/// that tests run them on the host, one after another. Packing is by planes; frames start at multiples of 16 bytes.
namespace gradwire::device {

/// The elements whose codes one thread packs or unpacks: 8 rows by 4 columns of the planes, which are whole 32-bit
/// words of each plane, whatever the number of bits.
struct QuantizeTile {
  static constexpr std::size_t kRows = 8;
  static constexpr std::size_t kColumns = kRowPart;
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
  /// Words of that plane that are there: fewer where the frame ends in the tile, or before it.
  [[nodiscard]] constexpr std::size_t words(const QuantizeLayout& layout, std::size_t width) const noexcept {
    if (first_row >= layout.rows()) return 0;
    const std::size_t rows_a_word = 8 / width;
    const std::size_t rows = layout.rows() - first_row;
    return rows >= kRows ? width : (rows + rows_a_word - 1) / rows_a_word;
  }
};

struct TileValues {
  float at[QuantizeTile::kRows][QuantizeTile::kColumns];
};

/// Elements of the tile's row that are there.
[[nodiscard]] constexpr std::size_t row_size(const QuantizeLayout& layout, const QuantizeTile& tile,
                                             std::size_t row) noexcept {
  const std::size_t first = tile.element(row, 0);
  if (first >= layout.count) return 0;
  return layout.count - first < QuantizeTile::kColumns ? layout.count - first : QuantizeTile::kColumns;
}

[[nodiscard]] GRADWIRE_HD inline TileValues load_tile(const QuantizeLayout& layout, const ConstTensor& x,
                                                      const QuantizeTile& tile) {
  TileValues values;
  GRADWIRE_UNROLL
  for (std::size_t row = 0; row < QuantizeTile::kRows; ++row)
    load_row(x.data, x.dtype, tile.element(row, 0), row_size(layout, tile, row), values.at[row]);
  return values;
}

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

/// RandomStream::at(), whose keys hold for 2^33 elements.
class TileRandom {
 public:
  GRADWIRE_HD TileRandom(const RandomKey& key, std::uint64_t element)
      : stream_(key), high_(high_of(element)), keys_(stream_.keys(high_)) {}

  [[nodiscard]] GRADWIRE_HD std::uint16_t at(std::uint64_t element) {
    if (high_of(element) != high_) {
      high_ = high_of(element);
      keys_ = stream_.keys(high_);
    }
    const std::uint32_t h = RandomStream::hash(static_cast<std::uint32_t>(element >> 1), keys_);
    return static_cast<std::uint16_t>((element & 1) != 0 ? h >> 16 : h);
  }

 private:
  [[nodiscard]] static constexpr std::uint32_t high_of(std::uint64_t element) noexcept {
    return static_cast<std::uint32_t>(element >> 33);
  }

  RandomStream stream_;
  std::uint32_t high_;
  RandomStream::Keys keys_;
};

/// Calls visit(where the word lies in the payload, first row of its rows_a_word, width, the code's first bit, a mask of
/// width bits for each column, whether the word is there) for each of the tile's words, plane by plane.
template <class Visit>
GRADWIRE_HD void visit_words(const QuantizeLayout& layout, const QuantizeTile& tile, Visit visit) {
  unsigned code_bit = 0;
  GRADWIRE_UNROLL
  for (int step = 0; step < 4; ++step) {
    const std::size_t width = std::size_t{8} >> step;
    if (!layout.has_plane(width)) continue;
    const std::uint32_t mask = ((1u << width) - 1u) * 0x0101'0101u;
    const std::size_t words = tile.words(layout, width);
    const std::size_t offset = tile.word_offset(layout, width);
    GRADWIRE_UNROLL
    for (std::size_t w = 0; w < width; ++w)
      visit(offset + w * QuantizeLayout::kRow, w * (8 / width), width, code_bit, mask, w < words);
    code_bit += static_cast<unsigned>(width);
  }
}

/// Codes and residuals of a tile whose values are there; `scale_of(row)` is that of the row's bucket. Residuals may
/// take the place of x.
template <class ScaleOf>
GRADWIRE_HD void pack_tile(const kernels::QuantizeEncode& job, const QuantizeTile& tile, const TileValues& values,
                           ScaleOf scale_of) {
  const QuantizeLayout layout{job.params, job.x.count};
  const bool draws = job.params.round == Rounding::stochastic;
  TileRandom random(job.key, job.key.first_element + tile.element(0, 0));
  std::uint32_t codes[QuantizeTile::kRows] = {};  // a byte for each column
  GRADWIRE_UNROLL
  for (std::size_t row = 0; row < QuantizeTile::kRows; ++row) {
    const std::size_t n = row_size(layout, tile, row);
    if (n == 0) continue;
    const BucketScale scale = scale_of(row);
    const std::size_t first = tile.element(row, 0);
    float lost[QuantizeTile::kColumns];
    GRADWIRE_UNROLL
    for (std::size_t column = 0; column < QuantizeTile::kColumns; ++column) {
      if (column >= n) continue;
      const float x = values.at[row][column];
      const std::uint16_t r = draws ? random.at(job.key.first_element + first + column) : std::uint16_t{0};
      const int code = code_of(job.params, scale, x, r, job.codebook);
      codes[row] |= static_cast<std::uint32_t>(code) << 8 * column;
      lost[column] = x - value_of(job.params, scale, code, job.codebook);
    }
    if (job.residual != nullptr) store_row(job.residual, DType::f32, first, n, lost);
  }
  visit_words(
      layout, tile,
      [&](std::size_t at, std::size_t row, std::size_t width, unsigned code_bit, std::uint32_t mask, bool is_there) {
        std::uint32_t word = 0;
        GRADWIRE_UNROLL
        for (std::size_t r = 0; r < 8 / width; ++r) word |= (codes[row + r] >> code_bit & mask) << width * r;
        if (is_there) store_word(job.payload + at, word);
      });
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

/// Codes of a tile's elements out of a payload: a byte for each column.
struct TileCodes {
  std::uint32_t row[QuantizeTile::kRows];
};

[[nodiscard]] GRADWIRE_HD inline TileCodes unpack_tile(const QuantizeLayout& layout, const std::byte* payload,
                                                       const QuantizeTile& tile) {
  TileCodes codes{};
  visit_words(
      layout, tile,
      [&](std::size_t at, std::size_t row, std::size_t width, unsigned code_bit, std::uint32_t mask, bool is_there) {
        const std::uint32_t word = is_there ? load_word(payload + at) : 0;
        GRADWIRE_UNROLL
        for (std::size_t r = 0; r < 8 / width; ++r) codes.row[row + r] |= (word >> width * r & mask) << code_bit;
      });
  return codes;
}

/// Values of `n` elements of a tile's row, instead of `values` or added to them.
GRADWIRE_HD inline void decode_row(const QuantizeLayout& layout, const std::byte* payload, const QuantizeTile& tile,
                                   std::size_t row, std::size_t n, std::uint32_t codes, Write write, float* values) {
  const auto* const codebook = reinterpret_cast<const float*>(payload);  // read for learned levels only
  const std::byte* const scales = payload + layout.scale_offset();
  const std::size_t at = tile.element(row, 0) / layout.params.bucket * layout.scale_floats();
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
    decode_row(layout, job.payload, tile, row, n, codes.row[row], job.write, values);
    store_row(job.y.data, job.y.dtype, first, n, values);
  }
}

/// NaN into y, where the frame is not of this codec and size.
GRADWIRE_HD inline void spoil_tile(const kernels::QuantizeDecode& job, std::size_t index) {
  const QuantizeLayout layout{job.params, job.y.count};
  const QuantizeTile tile = QuantizeTile::at(index);
  constexpr float kValues[QuantizeTile::kColumns] = {kNaN, kNaN, kNaN, kNaN};
  for (std::size_t row = 0; row < QuantizeTile::kRows; ++row) {
    const std::size_t n = row_size(layout, tile, row);
    if (n > 0) store_row(job.y.data, job.y.dtype, tile.element(row, 0), n, kValues);
  }
}

[[nodiscard]] GRADWIRE_HD inline TileValues sum_tile(const QuantizeSum& sum, const QuantizeTile& tile) {
  const QuantizeLayout layout{sum.own.params, sum.own.x.count};
  TileValues values = load_tile(layout, sum.own.x, tile);
  for (std::uint32_t p = 0; p < sum.count; ++p) {
    const TileCodes codes = unpack_tile(layout, sum.payloads[p], tile);
    GRADWIRE_UNROLL
    for (std::size_t row = 0; row < QuantizeTile::kRows; ++row) {
      const std::size_t n = row_size(layout, tile, row);
      if (n == 0) continue;
      decode_row(layout, sum.payloads[p], tile, row, n, codes.row[row], Write::add, values.at[row]);
    }
  }
  return values;
}

}  // namespace gradwire::device
