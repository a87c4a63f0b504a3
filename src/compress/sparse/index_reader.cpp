#include <algorithm>
#include <bit>
#include <cstring>

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

std::size_t IndexReader::next(std::uint32_t* out) {
  const std::size_t n = std::min(kBatch, section_.count - done_);
  if (n == 0) {
    check_end();
    return 0;
  }
  switch (section_.plan.coding) {
    case IndexCoding::all: read_all(out, n); break;
    case IndexCoding::words: read_words(out, n); break;
    case IndexCoding::offsets: read_offsets(out, n); break;
    case IndexCoding::bitmap: read_bitmap(out, n); break;
    case IndexCoding::rice: read_rice(out, n); break;
    case IndexCoding::seeded: read_seeded(out, n); break;
  }
  bool good = out[0] >= next_place_ && out[n - 1] < section_.units;
  for (std::size_t i = 1; i < n; ++i) good &= out[i] > out[i - 1];
  if (!good)
    fail(Errc::bad_frame, "{}: places {} to {} of the frame do not ascend below {}", section_.spec, done_,
         done_ + n - 1, section_.units);
  next_place_ = std::size_t{out[n - 1]} + 1;
  done_ += n;
  return n;
}

void IndexReader::read_all(std::uint32_t* out, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::uint32_t>(done_ + i);
}

void IndexReader::read_words(std::uint32_t* out, std::size_t n) noexcept {
  std::memcpy(out, section_.data + 4 * done_, 4 * n);
}

void IndexReader::read_offsets(std::uint32_t* out, std::size_t n) {
  const std::size_t blocks = offset_blocks(section_.units);
  const std::byte* const offsets = section_.data + 4 * blocks;
  for (std::size_t i = 0; i < n;) {
    while (pending_ == 0) {
      if (position_ == blocks)
        fail(Errc::bad_frame, "{}: the frame's blocks hold {} entries, {} are announced", section_.spec, done_ + i,
             section_.count);
      pending_ = load<std::uint32_t>(section_.data, static_cast<std::size_t>(position_++));
    }
    const std::size_t run = static_cast<std::size_t>(std::min<std::uint64_t>(pending_, n - i));
    const auto base = static_cast<std::uint32_t>((position_ - 1) * kOffsetBlock);
    for (std::size_t j = 0; j < run; ++j) out[i + j] = base + load<std::uint16_t>(offsets, done_ + i + j);
    pending_ -= run;
    i += run;
  }
}

void IndexReader::read_bitmap(std::uint32_t* out, std::size_t n) {
  const std::size_t words = section_.plan.bytes / 8;
  for (std::size_t i = 0; i < n; ++i) {
    while (pending_ == 0) {
      if (position_ == words)
        fail(Errc::bad_frame, "{}: the frame's bitmap has {} bits set, {} entries are announced", section_.spec,
             done_ + i, section_.count);
      pending_ = load<std::uint64_t>(section_.data, static_cast<std::size_t>(position_++));
    }
    const std::uint64_t place = 64 * (position_ - 1) + static_cast<unsigned>(std::countr_zero(pending_));
    // Padding may reach past 2^32: such a place is refused for not being below `units`.
    out[i] = static_cast<std::uint32_t>(std::min<std::uint64_t>(place, 0xffff'ffff));
    pending_ &= pending_ - 1;
  }
}

void IndexReader::read_rice(std::uint32_t* out, std::size_t n) {
  RiceReader reader(section_.data, section_.plan.bytes, section_.plan.rice_bits, position_);
  std::uint64_t place = next_place_;
  for (std::size_t i = 0; i < n; ++i) {
    std::uint64_t gap = 0;
    if (!reader.next(gap) || place + gap >= section_.units)
      fail(Errc::bad_frame, "{}: entry {} of the frame is beyond {} or cut off", section_.spec, done_ + i,
           section_.units);
    place += gap;
    out[i] = static_cast<std::uint32_t>(place++);
  }
  position_ = reader.bit();
}

void IndexReader::read_seeded(std::uint32_t* out, std::size_t n) noexcept {
  const RandomStream::Keys keys{load<std::uint32_t>(section_.data, 0), load<std::uint32_t>(section_.data, 1)};
  Strata strata(done_, section_.count, section_.units);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::uint32_t>(strata.next(keys).place);
}

/// Whether [first, last) of the section is zero.
bool IndexReader::is_zero(std::size_t first, std::size_t last) const noexcept {
  return std::all_of(section_.data + first, section_.data + last, [](std::byte byte) { return byte == std::byte{0}; });
}

/// What no place takes: counts of further blocks, and what fills up the section.
void IndexReader::check_end() const {
  bool good = pending_ == 0;
  const IndexPlan& plan = section_.plan;
  const auto position = static_cast<std::size_t>(position_);
  switch (plan.coding) {
    case IndexCoding::all: break;
    case IndexCoding::words: good = good && is_zero(4 * section_.count, plan.bytes); break;
    case IndexCoding::offsets: {
      const std::size_t counts = 4 * offset_blocks(section_.units);
      good = good && is_zero(4 * position, counts) && is_zero(counts + 2 * section_.count, plan.bytes);
      break;
    }
    case IndexCoding::bitmap: good = good && is_zero(8 * position, plan.bytes); break;
    case IndexCoding::rice: {
      const std::size_t end = (position + 7) / 8;
      good = frame::align_up(end) == plan.bytes && is_zero(end, plan.bytes);
      if (good && position % 8 != 0) good = std::to_integer<unsigned>(section_.data[end - 1]) >> (position % 8) == 0;
      break;
    }
    case IndexCoding::seeded: good = good && is_zero(2 * sizeof(std::uint32_t), plan.bytes); break;
  }
  if (!good)
    fail(Errc::bad_frame, "{}: the frame's index section holds more than {} entries", section_.spec, section_.count);
}

}  // namespace gradwire::sparse
