#include "compress/sparse/selection.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

namespace gradwire::sparse {

/// Of ||x||^2 = 1, entries hold a share a >= kept, all else is lost, and coding the entries' values loses b a at most:
/// (1 - a) + b a is largest at one of the ends of [kept, 1].
double Selection::error_bound(std::size_t count, const CodingError& coding) const {
  return std::max(1 - kept(count) * (1 - coding.bound), coding.bound);
}

RandomStream::Keys place_keys(const RandomKey& key) noexcept {
  // Rounding draws from the keys of pairs of elements, whose high halves have 31 bits.
  return RandomStream(key).keys(0x8000'0000u | static_cast<std::uint32_t>(key.first_element >> 1));
}

std::size_t Density::of(std::size_t count) const noexcept {
  if (number != 0) return std::min<std::size_t>(number, count);
  const auto wanted = static_cast<std::size_t>(std::ceil(share * static_cast<double>(count)));
  return std::min(std::max<std::size_t>(wanted, 1), count);
}

std::string Density::spec() const {
  return number != 0 ? fmt::format("k={}", number) : fmt::format("density={}", share);
}

Scratch scratch(Use use, std::size_t room) {
  struct Memory {
    std::size_t room = 0;
    std::unique_ptr<std::uint32_t[]> index;
    std::unique_ptr<float[]> value;
    std::unique_ptr<std::uint32_t[]> keys;
  };
  static thread_local Memory memories[2];
  Memory& memory = memories[static_cast<std::size_t>(use)];
  if (memory.room < room) {
    memory.room = 0;
    memory.index = std::make_unique_for_overwrite<std::uint32_t[]>(room);
    memory.value = std::make_unique_for_overwrite<float[]>(room);
    memory.keys = std::make_unique_for_overwrite<std::uint32_t[]>(room);
    memory.room = room;
  }
  return {memory.index.get(), memory.value.get(), memory.keys.get()};
}

std::uint32_t* word_scratch(std::size_t room) {
  struct Memory {
    std::size_t room = 0;
    std::unique_ptr<std::uint32_t[]> words;
  };
  static thread_local Memory memory;
  if (memory.room < room) {
    memory.room = 0;
    memory.words = std::make_unique_for_overwrite<std::uint32_t[]>(room);
    memory.room = room;
  }
  return memory.words.get();
}

}  // namespace gradwire::sparse
