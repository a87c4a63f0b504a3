#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <numeric>

#include "base/fail.hpp"
#include "compress/frame.hpp"
#include "compress/sparse/index_coding.hpp"
#include "compress/sparse/rice.hpp"

namespace gradwire::sparse {
namespace {

template <class Word>
Word load(const std::byte* data, std::size_t i) noexcept {
  Word word;
  std::memcpy(&word, data + sizeof word * i, sizeof word);
  return word;
}

/// What no place takes of the section, from byte `first` on, is zero.
void check_rest(const IndexSection& section, std::size_t first) {
  if (!std::all_of(section.data + first, section.data + section.plan.bytes,
                   [](std::byte byte) { return byte == std::byte{0}; }))
    fail(Errc::bad_frame, "{}: the frame's index section holds more than {} entries", section.spec, section.count);
}

void check_ascent(const IndexSection& section, const std::uint32_t* first, const std::uint32_t* last) {
  bool good = true;
  for (const std::uint32_t* place = first; place + 1 < last; ++place) good &= place[0] < place[1];
  if (good) return;
  const std::uint32_t* const bad = std::adjacent_find(first, last, std::greater_equal<>());
  fail(Errc::bad_frame, "{}: places {} and {} of the frame do not ascend", section.spec, bad[0], bad[1]);
}

/// Of places that ascend.
void check_last(const IndexSection& section, const std::uint32_t* places) {
  if (places[section.count - 1] >= section.units)
    fail(Errc::bad_frame, "{}: place {} of the frame is not below {}", section.spec, places[section.count - 1],
         section.units);
}

void read_words(const IndexSection& section, std::uint32_t* out) {
  std::memcpy(out, section.data, 4 * section.count);
  check_ascent(section, out, out + section.count);
  check_last(section, out);
  check_rest(section, 4 * section.count);
}

void read_offsets(const IndexSection& section, std::uint32_t* out) {
  const std::size_t blocks = offset_blocks(section.units);
  const std::byte* const offsets = section.data + 4 * blocks;
  std::size_t done = 0;
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::size_t n = load<std::uint32_t>(section.data, block);
    if (n > section.count - done)
      fail(Errc::bad_frame, "{}: the frame's blocks hold more than {} entries", section.spec, section.count);
    const auto base = static_cast<std::uint32_t>(block * kOffsetBlock);
    for (std::size_t i = done; i < done + n; ++i) out[i] = base + load<std::uint16_t>(offsets, i);
    check_ascent(section, out + done, out + done + n);
    done += n;
  }
  if (done != section.count)
    fail(Errc::bad_frame, "{}: the frame's blocks hold {} entries, {} are announced", section.spec, done,
         section.count);
  check_last(section, out);
  check_rest(section, 4 * blocks + 2 * section.count);
}

void read_bitmap(const IndexSection& section, std::uint32_t* out) {
  const std::size_t words = (section.units + 63) / 64;
  std::size_t done = 0;
  for (std::size_t word = 0; word < words; ++word) {
    auto bits = load<std::uint64_t>(section.data, word);
    if (static_cast<std::size_t>(std::popcount(bits)) > section.count - done)
      fail(Errc::bad_frame, "{}: the frame's bitmap has more than {} bits set", section.spec, section.count);
    for (; bits != 0; bits &= bits - 1)
      out[done++] = static_cast<std::uint32_t>(64 * word + static_cast<unsigned>(std::countr_zero(bits)));
  }
  if (done != section.count)
    fail(Errc::bad_frame, "{}: the frame's bitmap has {} bits set, {} entries are announced", section.spec, done,
         section.count);
  check_last(section, out);
  check_rest(section, 8 * words);
}

void read_rice(const IndexSection& section, std::uint32_t* out) {
  const IndexPlan& plan = section.plan;
  RiceReader reader(section.data, plan.bytes, plan.rice_bits);
  std::uint64_t place = 0;
  for (std::size_t i = 0; i < section.count; ++i) {
    std::uint64_t gap = 0;
    if (!reader.next(gap) || place + gap >= section.units)
      fail(Errc::bad_frame, "{}: entry {} of the frame is beyond {} or cut off", section.spec, i, section.units);
    place += gap;
    out[i] = static_cast<std::uint32_t>(place++);
  }
  const auto used = static_cast<unsigned>(reader.bit() % 8);
  const auto end = static_cast<std::size_t>((reader.bit() + 7) / 8);
  if (frame::align_up(end) != plan.bytes ||
      (used != 0 && std::to_integer<unsigned>(section.data[end - 1]) >> used != 0))
    fail(Errc::bad_frame, "{}: the frame's index section holds more than {} entries", section.spec, section.count);
  check_rest(section, end);
}

/// Places that are drawn ascend, whatever the keys.
void read_seeded(const IndexSection& section, std::uint32_t* out) {
  const RandomStream::Keys keys{load<std::uint32_t>(section.data, 0), load<std::uint32_t>(section.data, 1)};
  Strata strata(0, section.count, section.units);
  for (std::size_t i = 0; i < section.count; ++i) out[i] = static_cast<std::uint32_t>(strata.next(keys).place);
  check_rest(section, sizeof keys);
}

}  // namespace

void check_index_section(const IndexSection& section) {
  const IndexPlan& plan = section.plan;
  if (plan.coding > IndexCoding::seeded)
    fail(Errc::bad_frame, "{}: frame has unknown index coding {}", section.spec, static_cast<int>(plan.coding));
  if (section.count > section.units)
    fail(Errc::bad_frame, "{}: frame has {} entries of {}", section.spec, section.count, section.units);
  if (plan.coding == IndexCoding::all && section.count != section.units)
    fail(Errc::bad_frame, "{}: frame has {} entries and says these are all {}", section.spec, section.count,
         section.units);
  if (plan.rice_bits > (plan.coding == IndexCoding::rice ? 31u : 0u))
    fail(Errc::bad_frame, "{}: frame has the Rice parameter {}", section.spec, plan.rice_bits);
  if (plan.coding == IndexCoding::rice) return;
  const std::size_t implied = fixed_index_bytes(plan.coding, section.count, section.units);
  if (plan.bytes != implied)
    fail(Errc::bad_frame, "{}: frame has {} bytes of indices, its coding takes {}", section.spec, plan.bytes, implied);
}

void read_places(const IndexSection& section, std::uint32_t* out) {
  const IndexCoding coding = section.plan.coding;
  if (section.count == 0 && coding != IndexCoding::rice)
    return check_rest(section, coding == IndexCoding::seeded ? sizeof(RandomStream::Keys) : 0);
  switch (coding) {
    case IndexCoding::all: return std::iota(out, out + section.count, 0u);
    case IndexCoding::words: return read_words(section, out);
    case IndexCoding::offsets: return read_offsets(section, out);
    case IndexCoding::bitmap: return read_bitmap(section, out);
    case IndexCoding::rice: return read_rice(section, out);
    case IndexCoding::seeded: return read_seeded(section, out);
  }
}

}  // namespace gradwire::sparse
