#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/device/memory.hpp"
#include "compress/device/tile_random.hpp"
#include "compress/natural_codes.hpp"
#include "compress/natural_kernels.hpp"

/// \file What single threads of the kernels of `natural` do.
namespace gradwire::device {

/// Elements beside one another whose codes are a 32-bit word, numbered in order; a payload is padded to 16 bytes.
struct NaturalTile {
  static constexpr std::size_t kElems = kRowPart;

  /// How many a frame has, those of its padding among them.
  [[nodiscard]] static constexpr std::size_t count(std::size_t elements) noexcept { return (elements + 15) / 16 * 4; }
  /// Elements that are there.
  [[nodiscard]] static constexpr std::size_t size(std::size_t elements, std::size_t index) noexcept {
    return there_from(elements, index * kElems, kElems);
  }
};

/// Codes and residuals of a tile; residuals may take the place of x.
GRADWIRE_HD inline void encode_tile(const kernels::NaturalEncode& job, std::size_t index) {
  const std::size_t n = NaturalTile::size(job.x.count, index);
  const std::size_t first = index * NaturalTile::kElems;
  const bool draws = job.round == Rounding::stochastic;
  TileRandom random(job.key, job.key.first_element + first);
  float x[NaturalTile::kElems] = {};
  float lost[NaturalTile::kElems] = {};
  load_row(job.x.data, job.x.dtype, first, n, x);
  std::uint32_t codes = 0;
  GRADWIRE_UNROLL
  for (std::size_t i = 0; i < NaturalTile::kElems; ++i) {
    if (i >= n) continue;
    const std::uint16_t r = draws ? random.at(job.key.first_element + first + i) : std::uint16_t{0};
    const std::uint8_t code = natural::code_of(job.round, x[i], r);
    codes |= std::uint32_t{code} << 8 * i;
    lost[i] = x[i] - natural::value_of(code);
  }
  store_word(reinterpret_cast<std::byte*>(job.codes) + first, codes);
  if (job.residual != nullptr) store_row(job.residual, DType::f32, first, n, lost);
}

GRADWIRE_HD inline void decode_tile(const kernels::NaturalDecode& job, std::size_t index) {
  const std::size_t n = NaturalTile::size(job.y.count, index);
  const std::size_t first = index * NaturalTile::kElems;
  const std::uint32_t codes = load_word(reinterpret_cast<const std::byte*>(job.codes) + first);
  float values[NaturalTile::kElems] = {};
  if (job.write == Write::add) load_row(job.y.data, job.y.dtype, first, n, values);
  GRADWIRE_UNROLL
  for (std::size_t i = 0; i < NaturalTile::kElems; ++i) {
    const float value = natural::value_of(static_cast<std::uint8_t>(codes >> 8 * i));
    values[i] = job.write == Write::add ? values[i] + value : value;
  }
  store_row(job.y.data, job.y.dtype, first, n, values);
}

}  // namespace gradwire::device
