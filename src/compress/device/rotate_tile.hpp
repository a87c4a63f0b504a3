#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

#include "compress/device/jobs.hpp"
#include "compress/device/memory.hpp"
#include "compress/rotate_arithmetic.hpp"

/// \file What single threads of the kernels of `rotate` do. A thread block transforms a chunk in its shared memory, of
/// one block or several; each pass over it takes up to four of the transform's levels in a thread's registers.
namespace gradwire::device {

/// The blocks of one size: all but the last, or the last, where it is shorter.
struct RotationPart {
  std::size_t first = 0;   ///< element
  std::size_t padded = 0;  ///< elements with the zeros behind them
  std::size_t size = 0;    ///< of a block
};

[[nodiscard]] constexpr std::size_t tail_size(const Rotation& rotation) noexcept {
  const std::size_t size = std::bit_ceil(rotation.count % rotation.block);
  return size < kernels::kMinRotation ? kernels::kMinRotation : size;
}
[[nodiscard]] constexpr RotationPart whole_blocks(const Rotation& rotation) noexcept {
  return {rotation.begin, rotation.count - rotation.count % rotation.block - rotation.begin, rotation.block};
}
/// Without elements where there is no shorter block.
[[nodiscard]] constexpr RotationPart last_block(const Rotation& rotation) noexcept {
  const std::size_t tail = rotation.count % rotation.block;
  const std::size_t size = tail == 0 ? 0 : tail_size(rotation);
  return {rotation.count - tail, size, size};
}
[[nodiscard]] constexpr std::size_t blocks_of(const Rotation& rotation) noexcept {
  return (rotation.count + rotation.block - 1) / rotation.block;
}
[[nodiscard]] constexpr std::size_t block_of(const Rotation& rotation, std::size_t element) noexcept {
  return element >> std::countr_zero(rotation.block);  // a power of two
}

inline constexpr std::size_t kSignBytes = 16;

/// A payload's first words: the signs' key, and what is behind the last factor. One thread's to do.
GRADWIRE_HD inline void store_signs(const Rotation& rotation, const kernels::SignKey& signs, std::byte* payload) {
  const std::uint32_t words[4] = {signs.keys.k0, signs.keys.k1, signs.word, 0};
  GRADWIRE_UNROLL
  for (std::size_t i = 0; i < 4; ++i) store_word(payload + i * sizeof words[i], words[i]);
  if (!rotation.has_factors) return;
  for (std::size_t b = blocks_of(rotation); b % 4 != 0; ++b) store_word(payload + kSignBytes + b * sizeof(float), 0);
}
[[nodiscard]] GRADWIRE_HD inline kernels::SignKey load_signs(const std::byte* payload) {
  return {{load_word(payload), load_word(payload + 4)}, load_word(payload + 8)};
}

/// Where element i of a chunk lies in shared memory: such that the threads of a warp, 16 or more elements apart, meet
/// in few banks.
[[nodiscard]] constexpr std::size_t place_in_chunk(std::size_t i) noexcept { return i + i / 32; }

/// x D / sqrt(size) of kRowPart elements, into a chunk. `factor` is 1 / sqrt(size).
GRADWIRE_HD inline void load_signed(const ConstTensor& x, const kernels::SignKey& signs, float factor,
                                    std::size_t first, float* chunk, std::size_t at) {
  float values[kRowPart] = {};
  load_row(x.data, x.dtype, first, there_from(x.count, first), values);
  const std::uint32_t negative = rotation::sign_word(signs, first) >> first % 32;
  GRADWIRE_UNROLL
  for (std::size_t i = 0; i < kRowPart; ++i) {
    const bool is_good = std::fabs(values[i]) <= kernels::kMaxRotated;
    const float value = is_good ? values[i] * factor : kNaN;
    chunk[place_in_chunk(at + i)] = (negative >> i & 1) != 0 ? -value : value;
  }
}

/// D v of kRowPart elements of a chunk.
GRADWIRE_HD inline void take_signed(const kernels::SignKey& signs, bool negate, std::size_t first, const float* chunk,
                                    std::size_t at, float* values) {
  const std::uint32_t negative = rotation::sign_word(signs, first) >> first % 32;
  GRADWIRE_UNROLL
  for (std::size_t i = 0; i < kRowPart; ++i) {
    const float value = chunk[place_in_chunk(at + i)];
    values[i] = ((negative >> i & 1) != 0) != negate ? -value : value;
  }
}

/// `levels` levels of the transform, the first of which joins elements `half` apart: those of one item, of which a
/// chunk of n elements has n >> levels.
template <unsigned levels>
GRADWIRE_HD void transform_item(float* chunk, std::size_t item, std::size_t half) {
  constexpr std::size_t kElems = std::size_t{1} << levels;
  const std::size_t low = item & (half - 1);
  const std::size_t first = (item - low) * kElems + low;
  float v[kElems];
  GRADWIRE_UNROLL
  for (std::size_t k = 0; k < kElems; ++k) v[k] = chunk[place_in_chunk(first + k * half)];
  GRADWIRE_UNROLL
  for (std::size_t apart = 1; apart < kElems; apart *= 2) {
    GRADWIRE_UNROLL
    for (std::size_t k = 0; k < kElems; ++k) {
      if ((k & apart) != 0) continue;
      const float a = v[k];
      const float b = v[k + apart];
      v[k] = a + b;
      v[k + apart] = a - b;
    }
  }
  GRADWIRE_UNROLL
  for (std::size_t k = 0; k < kElems; ++k) chunk[place_in_chunk(first + k * half)] = v[k];
}

/// Levels that the next pass takes, of `left`: passes are as few as can be, and alike.
[[nodiscard]] constexpr unsigned levels_of_pass(unsigned left) noexcept {
  const unsigned passes = (left + 3) / 4;
  return (left + passes - 1) / passes;
}

/// Partial sums of a column, 0 to 15, of a block's products.
[[nodiscard]] GRADWIRE_HD inline kernels::Products column_products(const float* y, const float* q, std::size_t size,
                                                                   std::size_t column) {
  kernels::Products sums{};
#ifdef __CUDA_ARCH__
#pragma unroll 8
#endif
  for (std::size_t i = column; i < size; i += 16) {
    const double a = y[i];
    const double b = q[i];
    sums.yy += a * a;
    sums.yq += a * b;
    sums.qq += b * b;
  }
  return sums;
}

}  // namespace gradwire::device
