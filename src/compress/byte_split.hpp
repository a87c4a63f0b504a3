#pragma once
#include <cstddef>
#include <cstdint>

/// \file Bytes of words gathered by their place in the word: exponents of floats beside exponents, which a lossless
/// stage shrinks far better than a mix of all bytes. A family of kernels (compress/isa.hpp).
namespace gradwire::kernels {

struct ByteSplit {
  const std::byte* from;
  std::byte* to;  ///< must not overlap `from`
  std::size_t words;
  std::size_t width;  ///< bytes of a word: 2 or 4
};

}  // namespace gradwire::kernels

namespace gradwire {

struct ByteSplitKernels {
  /// Byte b of word i goes to b * words + i.
  void (*split)(const kernels::ByteSplit&);
  /// And back.
  void (*merge)(const kernels::ByteSplit&);
};

}  // namespace gradwire
