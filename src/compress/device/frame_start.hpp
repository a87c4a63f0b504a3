#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/device/memory.hpp"

namespace gradwire::device {

/// A frame's first 16 bytes, docs/wire-format.md section 1: known before anything is encoded.
struct FrameStart {
  std::uint32_t words[4] = {};  ///< magic, version, codec and dtype; options; count; blocks
};

/// In front of a payload: one thread's to do.
GRADWIRE_HD inline void store_start(std::byte* payload, const FrameStart& start) {
  GRADWIRE_UNROLL
  for (std::size_t i = 0; i < 4; ++i) store_word(payload - sizeof start + i * sizeof(std::uint32_t), start.words[i]);
}

/// Whether what is in front of a payload is this, but for the dtype of what was encoded. A decoder that finds anything
/// else gives NaN for all elements.
[[nodiscard]] GRADWIRE_HD inline bool has_start(const std::byte* payload, const FrameStart& expected) {
  constexpr std::uint32_t kButDType = 0x00ff'ffff;
  bool same = true;
  GRADWIRE_UNROLL
  for (std::size_t i = 0; i < 4; ++i) {
    const std::uint32_t found = load_word(payload - sizeof expected + i * sizeof(std::uint32_t));
    same = same && ((found ^ expected.words[i]) & (i == 0 ? kButDType : ~0u)) == 0;
  }
  return same;
}

}  // namespace gradwire::device
