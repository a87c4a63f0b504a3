#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ranks/worlds.hpp"

namespace gradwire::test {

inline constexpr std::size_t kSizes[] = {0, 1, 13, 4099, 1'000'003};

/// What rank `from` sends rank `to` as message number `sequence`.
inline std::vector<std::byte> pattern(int from, int to, std::size_t size, std::uint32_t sequence = 0) {
  std::vector<std::byte> bytes(size);
  auto state = static_cast<std::uint32_t>(from * 7919 + to * 104729) + sequence * 1299709u + 1u;
  for (std::byte& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

inline ConstBytes view(const std::vector<std::byte>& bytes) { return {bytes.data(), bytes.size()}; }
inline Bytes view(std::vector<std::byte>& bytes) { return {bytes.data(), bytes.size()}; }

struct Neighbours {
  explicit Neighbours(const Communicator& comm)
      : next((comm.rank() + 1) % comm.size()), previous((comm.rank() + comm.size() - 1) % comm.size()) {}
  int next;
  int previous;
};

}  // namespace gradwire::test
