#pragma once
#include <algorithm>
#include <cstddef>

namespace gradwire::device {

inline constexpr unsigned kBlockThreads = 256;
/// Blocks of a grid that has at most so many: its kernels go on with other work where there is more than threads.
inline constexpr unsigned kMostBlocks = 1u << 16;

/// Blocks of kBlockThreads for `threads` threads; at least one, so that an empty frame is launched like any other.
[[nodiscard]] constexpr unsigned blocks_for(std::size_t threads, unsigned most = kMostBlocks) noexcept {
  const std::size_t blocks = (threads + kBlockThreads - 1) / kBlockThreads;
  return static_cast<unsigned>(std::clamp<std::size_t>(blocks, 1, most));
}
/// Rows of blocks for `rows` pieces of work that are alike; at least one, and no more than a grid may have.
[[nodiscard]] constexpr unsigned rows_for(std::size_t rows, unsigned most) noexcept {
  constexpr std::size_t kMostRows = 65535;
  return static_cast<unsigned>(std::clamp<std::size_t>(rows, 1, std::clamp<std::size_t>(most, 1, kMostRows)));
}

}  // namespace gradwire::device
