#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/device/sparse_frame.hpp"

/// \file What threads read of a sparse frame, of which nothing is trusted: no more is read than its capacity, no place
/// is beyond the tensor.
namespace gradwire::device {

/// What a frame says of itself.
struct SparseFront {
  bool is_ours = false;  ///< all that follows is consistent; its size has still to be that of its parts
  std::size_t chosen = 0;
  sparse::IndexPlan index;
  std::size_t units = 0;
  std::size_t bytes = 0;
};

[[nodiscard]] GRADWIRE_HD inline SparseFront read_front(const SparseDecode& job, const FrameStart& expected) {
  const SparseShape& shape = job.shape;
  const auto word = [&](std::size_t w) { return load_word(job.frame + w * sizeof(std::uint32_t)); };
  SparseFront front;
  const std::uint32_t codings = word(5);
  front.bytes = std::size_t{word(3)} * frame::kAlign;
  front.chosen = word(4);
  front.index = {static_cast<sparse::IndexCoding>(codings & 0xff), 0, std::size_t{word(6)} * frame::kAlign};
  front.units = sparse::units_of(shape.count, front.chosen == 0 ? 0 : shape.block);
  constexpr std::uint32_t kButDType = 0x00ff'ffff;
  const std::size_t block = front.chosen == 0 ? 0 : shape.block;
  const bool starts_well =
      ((word(0) ^ expected.words[0]) & kButDType) == 0 && word(1) == expected.words[1] && word(2) == expected.words[2];
  const bool fits = front.bytes <= shape.capacity && front.bytes >= sparse::kHeadBytes + front.index.bytes &&
                    front.chosen <= shape.most;
  const sparse::IndexCoding coding = front.index.coding;
  const bool is_for_devices = coding <= sparse::IndexCoding::seeded && coding != sparse::IndexCoding::rice &&
                              (coding != sparse::IndexCoding::all || front.chosen == front.units);
  front.is_ours = starts_well && fits && is_for_devices && codings >> 8 == (block / sparse::kBlockStep) << 8 &&
                  word(7) == 0 && front.index.bytes == sparse::fixed_index_bytes(coding, front.chosen, front.units);
  if (shape.values != sparse::ValueCoding::Kind::frame) return front;
  const SparseLayout full = full_layout(shape);  // values are where the host took them to be
  front.is_ours = front.is_ours && front.chosen == shape.most && front.index.bytes == full.index.bytes;
  return front;
}

/// Words of a bitmap that a warp reads together, and the places in them.
inline constexpr std::size_t kBitmapWords = 32;
inline constexpr std::size_t kBitmapPlaces = 32 * kBitmapWords;

[[nodiscard]] GRADWIRE_HD inline std::uint32_t bitmap_word(const SparseDecode& job, const SparseFront& front,
                                                           std::size_t w) {
  return 32 * w < front.units ? load_word(job.frame + sparse::kHeadBytes + w * sizeof(std::uint32_t)) : 0;
}

/// Numbers that the index section has before its places, or implies: of `offsets` the places in a block, of `bitmap`
/// those in kBitmapWords words.
[[nodiscard]] constexpr std::size_t groups_of(const SparseFront& front) noexcept {
  switch (front.index.coding) {
    case sparse::IndexCoding::offsets: return sparse::offset_blocks(front.units);
    case sparse::IndexCoding::bitmap: return (front.units + kBitmapPlaces - 1) / kBitmapPlaces;
    default: return 0;
  }
}
/// Room for them, whatever the coding.
[[nodiscard]] constexpr std::size_t most_groups(const SparseShape& shape) noexcept {
  return (shape.count + kBitmapPlaces - 1) / kBitmapPlaces;
}

/// Place of entry `e` of codings other than bitmap; false where it is not below `units`, or not above the place before.
/// `before` are the places before each block of `offsets`.
[[nodiscard]] GRADWIRE_HD inline bool read_place(const SparseDecode& job, const SparseFront& front,
                                                 const std::uint64_t* before, std::size_t e, std::uint32_t& place) {
  const std::byte* const section = job.frame + sparse::kHeadBytes;
  const auto word = [&](std::size_t w) { return load_word(section + w * sizeof(std::uint32_t)); };
  switch (front.index.coding) {
    case sparse::IndexCoding::words: {
      place = word(e);
      return place < front.units && (e == 0 || word(e - 1) < place);
    }
    case sparse::IndexCoding::seeded: {
      sparse::Strata strata(e, front.chosen, front.units);
      place = static_cast<std::uint32_t>(strata.next({word(0), word(1)}).place);
      return true;
    }
    case sparse::IndexCoding::offsets: {
      const std::size_t blocks = sparse::offset_blocks(front.units);
      std::size_t block = 0;  // the last before which there are at most e
      for (std::size_t last = blocks; last - block > 1;) {
        const std::size_t middle = (block + last) / 2;
        if (before[middle] <= e) {
          block = middle;
        } else {
          last = middle;
        }
      }
      const auto offset = [&](std::size_t i) { return word(blocks + i / 2) >> (i % 2 * 16) & 0xffff; };
      place = static_cast<std::uint32_t>(block * sparse::kOffsetBlock) + offset(e);
      return place < front.units && (e == before[block] || offset(e - 1) < offset(e));
    }
    default: place = static_cast<std::uint32_t>(e); return true;  // all
  }
}

}  // namespace gradwire::device
