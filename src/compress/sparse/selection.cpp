#include "compress/sparse/selection.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace gradwire::sparse {

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
    std::vector<std::uint32_t> index;
    std::vector<float> value;
    std::vector<std::uint32_t> keys;
  };
  static thread_local Memory memories[2];
  Memory& memory = memories[static_cast<std::size_t>(use)];
  if (memory.index.size() < room) {
    memory.index.resize(room);
    memory.value.resize(room);
    memory.keys.resize(room);
  }
  return {memory.index.data(), memory.value.data(), memory.keys.data()};
}

}  // namespace gradwire::sparse
