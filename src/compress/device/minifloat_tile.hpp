#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

#include "compress/device/memory.hpp"
#include "compress/device/plane_tile.hpp"
#include "compress/device/tile_random.hpp"
#include "compress/minifloat_codes.hpp"
#include "compress/minifloat_kernels.hpp"

/// \file What single threads of the kernels of `f8`, `mx*` and `nvfp4` do. A thread has a tile; the four threads of the
/// tiles beside one another (PlaneTile::kAcross) have whole rows of 16 elements, and so whole blocks of mx and groups
/// of nvfp4, and tell one another what they have seen of them.
namespace gradwire::device {

/// Format and kinds of scale are known when kernels are compiled.
template <MinifloatFormat format, MinifloatScale scale>
struct MinifloatKind {
  static constexpr MinifloatFormat kFormat = format;
  static constexpr MinifloatScale kScale = scale;

  [[nodiscard]] static constexpr MinifloatShape shape() noexcept { return shape_of(format); }
  [[nodiscard]] static constexpr MinifloatLayout layout(const MinifloatParams& params, std::size_t count) noexcept {
    return {{format, scale, params.block, params.round}, count};
  }
};

/// The largest magnitude of each row of a tile, as bits: NaN is above Inf is above all else.
struct RowsMost {
  std::uint32_t row[PlaneTile::kRows];

  [[nodiscard]] constexpr std::uint32_t all() const noexcept {
    std::uint32_t most = 0;
    GRADWIRE_UNROLL
    for (std::size_t r = 0; r < PlaneTile::kRows; ++r) most = row[r] > most ? row[r] : most;
    return most;
  }
};

[[nodiscard]] GRADWIRE_HD inline RowsMost rows_most(const MinifloatLayout& layout, const PlaneTile& tile,
                                                    const TileValues& values) {
  RowsMost most{};
  GRADWIRE_UNROLL
  for (std::size_t row = 0; row < PlaneTile::kRows; ++row) {
    const std::size_t n = row_size(layout, tile, row);
    GRADWIRE_UNROLL
    for (std::size_t column = 0; column < PlaneTile::kColumns; ++column) {
      const std::uint32_t bits = column < n ? magnitude_bits(values.at[row][column]) : 0;
      most.row[row] = bits > most.row[row] ? bits : most.row[row];
    }
  }
  return most;
}

/// Of a block that has none: NaN, Inf or what is too large in it becomes NaN throughout.
inline constexpr MinifloatUnit kNoUnit{kNaN, kNaN};

/// Of a block of f8 or a span of nvfp4.
[[nodiscard]] constexpr MinifloatUnit unit_from_most(const MinifloatParams& params, std::uint32_t most_bits) noexcept {
  const auto most = std::bit_cast<float>(most_bits);
  if (!(most <= most_magnitude(params.scale))) return {kNaN, kNaN};
  return params.scale == MinifloatScale::nvfp4 ? unit_of_span(most) : unit_of_block(most, params.shape());
}

/// Into the payload, by one thread for each block. That of the last one also fills up the scales' last 16 bytes.
GRADWIRE_HD inline void store_unit(const MinifloatLayout& layout, std::size_t block, const MinifloatUnit& unit,
                                   std::byte* payload) {
  store_word(payload + block * sizeof(float), std::bit_cast<std::uint32_t>(unit.unit));
  if (block + 1 < layout.blocks()) return;
  for (std::size_t at = layout.block_scale_bytes(); at < layout.group_scale_offset(); at += sizeof(float))
    store_word(payload + at, 0);
}

/// One for each row: what elements are divided by and decoded with.
struct RowUnits {
  MinifloatUnit row[PlaneTile::kRows];
};

/// Elements of a block of mx, two rows; the scales of a tile's four are a 32-bit word.
inline constexpr std::size_t kMxRows = MinifloatParams::kMxBlock / PlaneTile::kRowElems;

/// The scales of mx, of four tiles beside one another whose rows' magnitudes are joined. The first of them stores them.
[[nodiscard]] GRADWIRE_HD inline RowUnits settle_mx(const MinifloatLayout& layout, const MinifloatShape& shape,
                                                    const PlaneTile& tile, const RowsMost& most, std::byte* payload) {
  RowUnits units{};
  std::uint32_t word = 0;
  const std::size_t first_block = tile.first_row / kMxRows;
  GRADWIRE_UNROLL
  for (std::size_t b = 0; b < PlaneTile::kRows / kMxRows; ++b) {
    const std::uint32_t bits = most.row[2 * b] > most.row[2 * b + 1] ? most.row[2 * b] : most.row[2 * b + 1];
    const auto magnitude = std::bit_cast<float>(bits);
    const bool is_bad = !(magnitude <= most_magnitude(MinifloatScale::e8m0));
    const std::uint8_t scale = is_bad ? std::uint8_t{0xff} : e8m0_of_block(magnitude, shape);
    const MinifloatUnit unit = is_bad ? kNoUnit : unit_of_e8m0(magnitude, scale);
    units.row[2 * b] = unit;
    units.row[2 * b + 1] = unit;
    if (first_block + b < layout.blocks()) word |= std::uint32_t{scale} << 8 * b;
  }
  if (tile.first_column != 0 || tile.first_row >= layout.rows()) return units;
  store_word(payload + first_block, word);
  if (tile.first_row + PlaneTile::kRows < layout.rows()) return units;
  for (std::size_t at = first_block + sizeof word; at < layout.group_scale_offset(); at += sizeof word)
    store_word(payload + at, 0);
  return units;
}

/// The scales of nvfp4's groups, each a row, of four tiles beside one another whose rows' magnitudes are joined;
/// `span_of(row)` is the unit of the row's span, for rows that are there. The first tile stores them.
template <class SpanOf>
[[nodiscard]] GRADWIRE_HD RowUnits settle_groups(const MinifloatLayout& layout, const PlaneTile& tile,
                                                 const RowsMost& most, SpanOf span_of, std::byte* payload) {
  RowUnits units{};
  std::uint32_t words[2] = {};
  GRADWIRE_UNROLL
  for (std::size_t row = 0; row < PlaneTile::kRows; ++row) {
    if (tile.first_row + row >= layout.rows()) continue;
    const MinifloatUnit span = span_of(row);
    const float scale = std::bit_cast<float>(most.row[row]) * span.inv;
    const std::uint32_t code = minifloat::group_scale_of(scale, layout.params.round);
    units.row[row] = minifloat::unit_of_group(code, span.unit);
    words[row / 4] |= code << 8 * (row % 4);
  }
  if (tile.first_column != 0 || tile.first_row >= layout.rows()) return units;
  std::byte* const scales = payload + layout.group_scale_offset() + tile.first_row;
  store_word(scales, words[0]);
  store_word(scales + sizeof(std::uint32_t), words[1]);
  const bool fills_up = tile.first_row + PlaneTile::kRows >= layout.rows() && tile.first_row % 16 == 0;
  if (!fills_up) return units;
  store_word(scales + 2 * sizeof(std::uint32_t), 0);
  store_word(scales + 3 * sizeof(std::uint32_t), 0);
  return units;
}

/// Codes and residuals of a tile whose values are there. Residuals may take the place of x.
GRADWIRE_HD inline void pack_tile(const kernels::MinifloatEncode& job, const MinifloatLayout& layout,
                                  const MinifloatShape& shape, const PlaneTile& tile, const TileValues& values,
                                  const RowUnits& units) {
  const bool draws = job.params.round == Rounding::stochastic;
  TileRandom random(job.key, job.key.first_element + tile.element(0, 0));
  TileCodes codes{};
  GRADWIRE_UNROLL
  for (std::size_t row = 0; row < PlaneTile::kRows; ++row) {
    const std::size_t n = row_size(layout, tile, row);
    if (n == 0) continue;
    const MinifloatUnit unit = units.row[row];
    const std::size_t first = tile.element(row, 0);
    float lost[PlaneTile::kColumns];
    GRADWIRE_UNROLL
    for (std::size_t column = 0; column < PlaneTile::kColumns; ++column) {
      if (column >= n) continue;
      const float x = values.at[row][column];
      const float u = draws ? RandomStream::unit_interval(random.at(job.key.first_element + first + column)) : 0.0f;
      const std::uint32_t code = minifloat::code_of(shape, x * unit.inv, {job.params.round, u});
      codes.row[row] |= code << 8 * column;
      lost[column] = x - shape.value(code) * unit.unit;
    }
    if (job.residual != nullptr) store_row(job.residual, DType::f32, first, n, lost);
  }
  store_codes(layout, tile, codes, job.payload);
}

/// What the elements of a tile's row are multiplied by; the row is there. Elements of a frame have 32-bit numbers.
template <class Kind>
[[nodiscard]] GRADWIRE_HD float row_unit(const MinifloatLayout& layout, const std::byte* payload, const PlaneTile& tile,
                                         std::size_t row) {
  const auto byte_at = [&](std::size_t first, std::size_t i) {
    return static_cast<std::uint8_t>(load_word(payload + first + i / 4 * 4) >> 8 * (i % 4));
  };
  if constexpr (Kind::kScale == MinifloatScale::e8m0) {
    return value_of_e8m0(byte_at(0, (tile.first_row + row) / kMxRows));
  } else {
    const std::uint32_t block = static_cast<std::uint32_t>(tile.element(row, 0)) / layout.params.block;
    const float unit = load_element(payload, DType::f32, block);
    if constexpr (Kind::kScale == MinifloatScale::f32) return unit;
    const std::uint8_t code = byte_at(layout.group_scale_offset(), tile.first_row + row);
    return shape_of(MinifloatFormat::e4m3).value(code) * unit;
  }
}

/// Values of a tile's elements into y.
template <class Kind>
GRADWIRE_HD void decode_tile(const kernels::MinifloatDecode& job, std::size_t index) {
  const MinifloatLayout layout = Kind::layout(job.params, job.y.count);
  constexpr MinifloatShape kShape = Kind::shape();
  const PlaneTile tile = PlaneTile::at(index);
  const TileCodes codes = unpack_tile(layout, job.payload, tile);
  GRADWIRE_UNROLL
  for (std::size_t row = 0; row < PlaneTile::kRows; ++row) {
    const std::size_t n = row_size(layout, tile, row);
    if (n == 0) continue;
    const std::size_t first = tile.element(row, 0);
    const float unit = row_unit<Kind>(layout, job.payload, tile, row);
    float values[PlaneTile::kColumns] = {};
    if (job.write == Write::add) load_row(job.y.data, job.y.dtype, first, n, values);
    GRADWIRE_UNROLL
    for (std::size_t column = 0; column < PlaneTile::kColumns; ++column) {
      const float value = kShape.value(codes.row[row] >> 8 * column & 0xffu) * unit;
      values[column] = job.write == Write::add ? values[column] + value : value;
    }
    store_row(job.y.data, job.y.dtype, first, n, values);
  }
}

}  // namespace gradwire::device
