#pragma once
#include <algorithm>
#include <cstddef>

namespace gradwire::device {

inline constexpr unsigned kBlockThreads = 256;
/// Blocks of a grid that has at most so many: its kernels go on with other work where there is more than threads.
inline constexpr unsigned kMostBlocks = 1u << 16;

/// Blocks of kBlockThreads for `threads` threads; at least one, so that an empty frame is launched like any other.
[[nodiscard]] constexpr std::size_t blocks_of(std::size_t threads) noexcept {
  return threads == 0 ? 1 : (threads + kBlockThreads - 1) / kBlockThreads;
}
/// The same, of a grid.
[[nodiscard]] constexpr unsigned blocks_for(std::size_t threads, unsigned most = kMostBlocks) noexcept {
  return static_cast<unsigned>(std::min<std::size_t>(blocks_of(threads), most));
}

}  // namespace gradwire::device
