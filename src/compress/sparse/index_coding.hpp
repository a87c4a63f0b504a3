#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "compress/frame.hpp"
#include "compress/random.hpp"

/// \file Ascending places among `units` (elements, or blocks of them) as bytes: docs/wire-format.md section 1.11.
namespace gradwire::sparse {

enum class IndexCoding : std::uint8_t { all = 0, words = 1, offsets = 2, bitmap = 3, rice = 4, seeded = 5 };

/// How n places are coded, and in how many bytes: a multiple of 16.
struct IndexPlan {
  IndexCoding coding = IndexCoding::words;
  std::uint32_t rice_bits = 0;
  std::size_t bytes = 0;
};

/// Ascending places, each below `units`.
struct Places {
  const std::uint32_t* index;
  std::size_t count;
  std::size_t units;
};

/// `offsets` are within blocks of so many units.
inline constexpr std::size_t kOffsetBlock = 65536;
[[nodiscard]] constexpr std::size_t offset_blocks(std::size_t units) noexcept {
  return (units + kOffsetBlock - 1) / kOffsetBlock;
}

/// The section of a `seeded` frame: keys that Strata draws from.
inline constexpr std::size_t kSeededBytes = 16;

/// Bytes of a section whose size does not depend on the places; 0 for Rice codes.
[[nodiscard]] constexpr std::size_t fixed_index_bytes(IndexCoding coding, std::size_t count,
                                                      std::size_t units) noexcept {
  switch (coding) {
    case IndexCoding::words: return frame::align_up(4 * count);
    case IndexCoding::offsets: return frame::align_up(4 * offset_blocks(units) + 2 * count);
    case IndexCoding::bitmap: return frame::align_up((units + 7) / 8);
    case IndexCoding::seeded: return kSeededBytes;
    case IndexCoding::all:
    case IndexCoding::rice: break;
  }
  return 0;
}

/// The shortest of words, offsets and bitmap for so many places, whichever they are; at equal length the first. Its
/// bytes grow with the number of places.
[[nodiscard]] constexpr IndexPlan shortest_fixed(std::size_t count, std::size_t units) noexcept {
  const std::size_t words = fixed_index_bytes(IndexCoding::words, count, units);
  const std::size_t offsets = fixed_index_bytes(IndexCoding::offsets, count, units);
  const std::size_t bitmap = fixed_index_bytes(IndexCoding::bitmap, count, units);
  if (words <= offsets && words <= bitmap) return {IndexCoding::words, 0, words};
  if (offsets <= bitmap) return {IndexCoding::offsets, 0, offsets};
  return {IndexCoding::bitmap, 0, bitmap};
}

/// The shortest coding of so many places that does not depend on which they are: what devices write.
[[nodiscard]] constexpr IndexPlan plan_fixed(std::size_t count, std::size_t units) noexcept {
  if (count == 0) return {};
  if (count == units) return {IndexCoding::all, 0, 0};
  return shortest_fixed(count, units);
}

/// The parameter of a Rice code: the least b with count * 2^(b+1) >= units - count. It minimises the longest code that
/// so many places can take, and so makes that monotone in `count`; on average it is optimal to 1 %.
[[nodiscard]] std::uint32_t rice_bits(std::size_t count, std::size_t units) noexcept;

/// Bytes that hold the shortest coding of any `count` places or fewer, whichever they are.
[[nodiscard]] std::size_t max_index_bytes(std::size_t count, std::size_t units) noexcept;

/// The shortest coding of these places.
[[nodiscard]] IndexPlan plan_indices(const Places& places) noexcept;

/// Writes plan.bytes bytes.
void write_indices(const IndexPlan& plan, const Places& places, std::byte* out) noexcept;

/// The section of a `seeded` frame.
void write_seed(RandomStream::Keys keys, std::byte* out) noexcept;

/// `units` cut into `count` strata of equal size, up to one unit, and a place drawn in each: uniform in it.
class Strata {
 public:
  struct Draw {
    std::size_t place;
    std::size_t size;  ///< of the stratum
  };

  /// From stratum `j` on; stratum j begins at floor(j units / count). Needs 1 <= count <= units.
  constexpr Strata(std::size_t j, std::size_t count, std::size_t units) noexcept
      : j_(static_cast<std::uint32_t>(j)),
        count_(count),
        least_(units / count),
        rest_(units % count),
        begin_(j * units / count),
        carry_(j * rest_ % count) {}

  constexpr Draw next(RandomStream::Keys keys) noexcept {
    carry_ += rest_;
    const bool longer = carry_ >= count_;
    if (longer) carry_ -= count_;
    const std::uint64_t size = least_ + (longer ? 1 : 0);
    const std::uint64_t place = begin_ + (RandomStream::hash(j_++, keys) * size >> 32);
    begin_ += size;
    return {static_cast<std::size_t>(place), static_cast<std::size_t>(size)};
  }

 private:
  std::uint32_t j_;
  std::uint64_t count_;
  std::uint64_t least_;  ///< size of the smaller strata
  std::uint64_t rest_;
  std::uint64_t begin_;
  std::uint64_t carry_;
};

/// An index section as a frame announces it; nothing of it is trusted.
struct IndexSection {
  IndexPlan plan;
  const std::byte* data;
  std::size_t count;
  std::size_t units;
  std::string_view spec;  ///< names the reader in messages
};

/// Throws Errc::bad_frame unless plan.bytes is what coding, count and units imply, which for Rice codes only reading
/// them can tell, and count is at most units.
void check_index_section(const IndexSection& section);

/// Writes the section's places, proven to ascend and to be below `units`; nothing else is in the section. `out` has
/// room for `count`. check_index_section must have passed, and plan.bytes bytes be there. Throws Errc::bad_frame.
void read_places(const IndexSection& section, std::uint32_t* out);

}  // namespace gradwire::sparse
