#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/device/quantize_tile.hpp"

/// \file What single threads do where ternary codes are packed five in a byte.
namespace gradwire::device {

/// The elements whose codes one thread packs or unpacks: 5 rows by 4 columns, a 32-bit word.
struct TritTile {
  static constexpr std::size_t kRows = QuantizeLayout::kTritRows;
  static constexpr std::size_t kColumns = kRowPart;
  static constexpr std::size_t kAcross = QuantizeLayout::kRow / kColumns;

  std::size_t first_row;
  std::size_t first_column;

  [[nodiscard]] static constexpr std::size_t count(const QuantizeLayout& layout) noexcept {
    return (layout.rows() + kRows - 1) / kRows * kAcross;
  }
  [[nodiscard]] static constexpr TritTile at(std::size_t index) noexcept {
    return {index / kAcross * kRows, index % kAcross * kColumns};
  }
  [[nodiscard]] constexpr std::size_t element(std::size_t row) const noexcept {
    return (first_row + row) * QuantizeLayout::kRow + first_column;
  }
  /// Elements of the row that are there.
  [[nodiscard]] constexpr std::size_t size(const QuantizeLayout& layout, std::size_t row) const noexcept {
    return there_from(layout.count, element(row), kColumns);
  }
  /// Where its word lies in the payload.
  [[nodiscard]] constexpr std::size_t word_offset(const QuantizeLayout& layout) const noexcept {
    return layout.trit_offset() + first_row / kRows * QuantizeLayout::kRow + first_column;
  }
};

/// Codes and residuals of a tile. `scales`: of all buckets. Residuals may take the place of x.
GRADWIRE_HD inline void encode_trits(const kernels::QuantizeEncode& job, std::size_t index, const BucketScale* scales) {
  const QuantizeLayout layout{job.params, job.x.count};
  const TritTile tile = TritTile::at(index);
  TileRandom random(job.key, job.key.first_element + tile.element(0));
  std::uint32_t word = 0;
  std::uint32_t weight = 1;
  GRADWIRE_UNROLL
  for (std::size_t row = 0; row < TritTile::kRows; ++row, weight *= 3) {
    const std::size_t n = tile.size(layout, row);
    if (n == 0) continue;
    const std::size_t first = tile.element(row);
    float values[TritTile::kColumns];
    load_row(job.x.data, job.x.dtype, first, n, values);
    word += encode_row(job, first, n, values, scales[first / job.params.bucket], random) * weight;  // bytes reach 242
  }
  store_word(job.payload + tile.word_offset(layout), word);
}

/// The next code of four bytes, which loses it.
[[nodiscard]] constexpr std::uint32_t take_trits(std::uint32_t& word) noexcept {
  std::uint32_t codes = 0;
  std::uint32_t rest = 0;
  GRADWIRE_UNROLL
  for (unsigned bit = 0; bit < 32; bit += 8) {
    const std::uint32_t byte = word >> bit & 0xffu;
    codes |= byte % 3 << bit;
    rest |= byte / 3 << bit;
  }
  word = rest;
  return codes;
}
/// Bytes above 242 read as 242.
[[nodiscard]] constexpr std::uint32_t clamp_trits(std::uint32_t word) noexcept {
  std::uint32_t clamped = 0;
  GRADWIRE_UNROLL
  for (unsigned bit = 0; bit < 32; bit += 8) {
    const std::uint32_t byte = word >> bit & 0xffu;
    clamped |= (byte < 242 ? byte : 242) << bit;
  }
  return clamped;
}

/// Values of a tile's elements into y.
GRADWIRE_HD inline void decode_trits(const kernels::QuantizeDecode& job, std::size_t index) {
  const QuantizeLayout layout{job.params, job.y.count};
  const TritTile tile = TritTile::at(index);
  std::uint32_t word = clamp_trits(load_word(job.payload + tile.word_offset(layout)));
  GRADWIRE_UNROLL
  for (std::size_t row = 0; row < TritTile::kRows; ++row) {
    const std::uint32_t codes = take_trits(word);
    const std::size_t n = tile.size(layout, row);
    if (n == 0) continue;
    const std::size_t first = tile.element(row);
    float values[TritTile::kColumns] = {};
    if (job.write == Write::add) load_row(job.y.data, job.y.dtype, first, n, values);
    decode_row(layout, job.payload, first, n, codes, job.write, values);
    store_row(job.y.data, job.y.dtype, first, n, values);
  }
}

GRADWIRE_HD inline void spoil_trits(const kernels::QuantizeDecode& job, std::size_t index) {
  const QuantizeLayout layout{job.params, job.y.count};
  const TritTile tile = TritTile::at(index);
  for (std::size_t row = 0; row < TritTile::kRows; ++row) spoil_row(job.y, tile.element(row), tile.size(layout, row));
}

}  // namespace gradwire::device
