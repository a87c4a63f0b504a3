#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/frame.hpp"
#include "compress/sparse/index_coding.hpp"

/// \file What frames of codec 11 have in front of their sections: docs/wire-format.md section 1.11.
namespace gradwire::sparse {

struct SubHeader {
  std::uint32_t chosen;  ///< entries, or blocks of them
  IndexCoding coding;
  std::uint8_t rice_bits;
  std::uint8_t block_32nds;  ///< elements of a block / 32; 0: entries are indexed one by one
  std::uint8_t zero;
  std::uint32_t index_rows;  ///< bytes of the index section / 16
  std::uint32_t zero_too;
};
static_assert(sizeof(SubHeader) == 16);
inline constexpr std::size_t kHeadBytes = frame::kHeaderBytes + sizeof(SubHeader);
inline constexpr std::size_t kBlockStep = 32;

/// What is indexed: elements, or blocks of them, where `block` is not 0.
[[nodiscard]] constexpr std::size_t units_of(std::size_t count, std::size_t block) noexcept {
  return block == 0 ? count : (count + block - 1) / block;
}

/// Elements of `chosen` units, of which `last` is the last: a tensor's last block may be short.
[[nodiscard]] constexpr std::size_t entries_of(std::size_t count, std::size_t block, std::size_t chosen,
                                               std::size_t last) noexcept {
  if (block == 0 || chosen == 0) return chosen;
  const std::size_t units = units_of(count, block);
  return chosen * block - (last + 1 == units ? units * block - count : 0);
}

}  // namespace gradwire::sparse
