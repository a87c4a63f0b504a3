#include "compress/sparse/index_coding.hpp"

#include <algorithm>
#include <cstring>

#include "compress/frame.hpp"
#include "compress/sparse/rice.hpp"

namespace gradwire::sparse {
namespace {

std::size_t rice_bytes(std::uint64_t bits) { return frame::align_up(static_cast<std::size_t>((bits + 7) / 8)); }

/// Gaps of these places, as many bits as their Rice codes take.
std::uint64_t rice_length(const Places& places, std::uint32_t parameter) {
  std::uint64_t zeros = places.index[0] >> parameter;
  for (std::size_t i = 1; i < places.count; ++i) zeros += (places.index[i] - places.index[i - 1] - 1) >> parameter;
  return zeros + std::uint64_t{places.count} * (1 + parameter);
}

void write_offsets(const Places& places, std::byte* out) {
  std::byte* const offsets = out + 4 * offset_blocks(places.units);
  std::size_t i = 0;
  for (std::size_t block = 0; block < offset_blocks(places.units); ++block) {
    const std::size_t first = i;
    for (; i < places.count && places.index[i] / kOffsetBlock == block; ++i) {
      const auto offset = static_cast<std::uint16_t>(places.index[i] % kOffsetBlock);
      std::memcpy(offsets + 2 * i, &offset, 2);
    }
    const auto in_block = static_cast<std::uint32_t>(i - first);
    std::memcpy(out + 4 * block, &in_block, 4);
  }
}

void write_bitmap(const Places& places, std::byte* out) {
  std::uint64_t word = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < places.count; ++i) {
    if (places.index[i] / 64 != at) {
      std::memcpy(out + 8 * at, &word, 8);
      word = 0;
      at = places.index[i] / 64;
    }
    word |= std::uint64_t{1} << (places.index[i] % 64);
  }
  std::memcpy(out + 8 * at, &word, 8);
}

void write_rice(const Places& places, std::uint32_t parameter, std::byte* out) {
  RiceWriter writer(out, parameter);
  writer.put(places.index[0]);
  for (std::size_t i = 1; i < places.count; ++i) writer.put(places.index[i] - places.index[i - 1] - 1);
  writer.finish();
}

}  // namespace

std::uint32_t rice_bits(std::size_t count, std::size_t units) noexcept {
  std::uint32_t bits = 0;
  while (count != 0 && (std::uint64_t{count} << (bits + 1)) < units - count) ++bits;
  return bits;
}

std::size_t max_index_bytes(std::size_t count, std::size_t units) noexcept {
  count = std::min(count, units);
  const std::uint32_t parameter = rice_bits(count, units);
  const std::size_t rice = rice_bytes(std::uint64_t{count} * (1 + parameter) + ((units - count) >> parameter));
  return std::min(rice, shortest_fixed(count, units).bytes);
}

IndexPlan plan_indices(const Places& places) noexcept {
  const IndexPlan fixed = plan_fixed(places.count, places.units);
  if (places.count == 0 || fixed.coding == IndexCoding::all) return fixed;
  const std::uint32_t parameter = rice_bits(places.count, places.units);
  const std::size_t bytes = rice_bytes(rice_length(places, parameter));
  // At equal length, the one that is faster to read.
  return fixed.bytes <= bytes ? fixed : IndexPlan{IndexCoding::rice, parameter, bytes};
}

void write_indices(const IndexPlan& plan, const Places& places, std::byte* out) noexcept {
  if (plan.bytes == 0) return;
  // Whole words are written below; what they leave out is padding, or a bitmap's zeros.
  if (plan.coding == IndexCoding::bitmap) {
    std::memset(out, 0, plan.bytes);
  } else {
    std::memset(out + plan.bytes - 16, 0, 16);
  }
  switch (plan.coding) {
    case IndexCoding::words: std::memcpy(out, places.index, 4 * places.count); break;
    case IndexCoding::offsets: write_offsets(places, out); break;
    case IndexCoding::bitmap: write_bitmap(places, out); break;
    case IndexCoding::rice: write_rice(places, plan.rice_bits, out); break;
    case IndexCoding::all:
    case IndexCoding::seeded: break;
  }
}

void write_seed(RandomStream::Keys keys, std::byte* out) noexcept {
  const std::uint32_t words[4] = {keys.k0, keys.k1, 0, 0};
  std::memcpy(out, words, sizeof words);
}

}  // namespace gradwire::sparse
