#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/device/memory.hpp"

/// \file Codes packed in planes of bits, rows of 16 elements: which part of them one thread reads and writes. Layouts
/// are those of frames (QuantizeLayout, MinifloatLayout), which start at multiples of 16 bytes.
namespace gradwire::device {

/// The elements whose codes one thread packs or unpacks: 8 rows by 4 columns of the planes, which are whole 32-bit
/// words of each plane, whatever the number of bits.
struct PlaneTile {
  static constexpr std::size_t kRows = 8;
  static constexpr std::size_t kColumns = kRowPart;
  static constexpr std::size_t kRowElems = 16;                  ///< of a plane
  static constexpr std::size_t kAcross = kRowElems / kColumns;  ///< tiles beside one another

  std::size_t first_row;
  std::size_t first_column;

  /// How many a frame has.
  template <class Layout>
  [[nodiscard]] static constexpr std::size_t count(const Layout& layout) noexcept {
    return (layout.rows() + kRows - 1) / kRows * kAcross;
  }
  [[nodiscard]] static constexpr PlaneTile at(std::size_t index) noexcept {
    return {index / kAcross * kRows, index % kAcross * kColumns};
  }
  [[nodiscard]] constexpr std::size_t element(std::size_t row, std::size_t column) const noexcept {
    return (first_row + row) * kRowElems + first_column + column;
  }
  /// Where the tile's words of the plane of `width` lie in the payload: `width` of them, 16 bytes apart.
  template <class Layout>
  [[nodiscard]] constexpr std::size_t word_offset(const Layout& layout, std::size_t width) const noexcept {
    return layout.plane_offset(width) + first_row / kRows * width * kRowElems + first_column;
  }
  /// Words of that plane that are there: fewer where the frame ends in the tile, or before it.
  template <class Layout>
  [[nodiscard]] constexpr std::size_t words(const Layout& layout, std::size_t width) const noexcept {
    if (first_row >= layout.rows()) return 0;
    const std::size_t rows_a_word = 8 / width;
    const std::size_t rows = layout.rows() - first_row;
    return rows >= kRows ? width : (rows + rows_a_word - 1) / rows_a_word;
  }
};

struct TileValues {
  float at[PlaneTile::kRows][PlaneTile::kColumns];
};

/// Elements of the tile's row that are there.
template <class Layout>
[[nodiscard]] constexpr std::size_t row_size(const Layout& layout, const PlaneTile& tile, std::size_t row) noexcept {
  return there_from(layout.count, tile.element(row, 0), PlaneTile::kColumns);
}

template <class Layout>
[[nodiscard]] GRADWIRE_HD TileValues load_tile(const Layout& layout, const ConstTensor& x, const PlaneTile& tile) {
  TileValues values;
  GRADWIRE_UNROLL
  for (std::size_t row = 0; row < PlaneTile::kRows; ++row)
    load_row(x.data, x.dtype, tile.element(row, 0), row_size(layout, tile, row), values.at[row]);
  return values;
}

/// visit_words() of one plane, if there is one. Its width is known when kernels are compiled, so that codes stay in
/// registers.
template <std::size_t width, class Layout, class Visit>
GRADWIRE_HD void visit_plane(const Layout& layout, const PlaneTile& tile, unsigned& code_bit, const Visit& visit) {
  if (!layout.has_plane(width)) return;
  constexpr std::uint32_t kMask = ((1u << width) - 1u) * 0x0101'0101u;
  const std::size_t words = tile.words(layout, width);
  const std::size_t offset = tile.word_offset(layout, width);
  GRADWIRE_UNROLL
  for (std::size_t w = 0; w < width; ++w)
    visit(offset + w * PlaneTile::kRowElems, w * (8 / width), width, code_bit, kMask, w < words);
  code_bit += static_cast<unsigned>(width);
}

/// Calls visit(where the word lies in the payload, first row of its rows_a_word, width, the code's first bit, a mask of
/// width bits for each column, whether the word is there) for each of the tile's words, plane by plane.
template <class Layout, class Visit>
GRADWIRE_HD void visit_words(const Layout& layout, const PlaneTile& tile, const Visit& visit) {
  unsigned code_bit = 0;
  visit_plane<8>(layout, tile, code_bit, visit);
  visit_plane<4>(layout, tile, code_bit, visit);
  visit_plane<2>(layout, tile, code_bit, visit);
  visit_plane<1>(layout, tile, code_bit, visit);
}

/// Codes of a tile's elements: a byte for each column.
struct TileCodes {
  std::uint32_t row[PlaneTile::kRows];
};

template <class Layout>
GRADWIRE_HD void store_codes(const Layout& layout, const PlaneTile& tile, const TileCodes& codes, std::byte* payload) {
  visit_words(
      layout, tile,
      [&](std::size_t at, std::size_t row, std::size_t width, unsigned code_bit, std::uint32_t mask, bool is_there) {
        std::uint32_t word = 0;
        GRADWIRE_UNROLL
        for (std::size_t r = 0; r < 8 / width; ++r) word |= (codes.row[row + r] >> code_bit & mask) << width * r;
        if (is_there) store_word(payload + at, word);
      });
}

template <class Layout>
[[nodiscard]] GRADWIRE_HD TileCodes unpack_tile(const Layout& layout, const std::byte* payload, const PlaneTile& tile) {
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

/// NaN into the tile's elements of y.
template <class Layout>
GRADWIRE_HD void spoil_tile(const Layout& layout, const Tensor& y, const PlaneTile& tile) {
  for (std::size_t row = 0; row < PlaneTile::kRows; ++row)
    spoil_row(y, tile.element(row, 0), row_size(layout, tile, row));
}

}  // namespace gradwire::device
