#pragma once
#include <cstddef>
#include <cstdint>

#include "gradwire/compressor.hpp"

/// \file The inner loops of `thc`, a family of kernels (compress/isa.hpp). Sizes are multiples of 32.
namespace gradwire::kernels {

/// codes = trunc(min(max(y inv, -top / 2), top / 2) + (top / 2 + u)), at most `top`.
struct ThcEncode {
  const float* y;
  float inv;
  std::uint32_t top;
  RandomKey key;  ///< of element 0
  Tensor codes;   ///< u8, u16 or u32
};

/// v = (2 codes - offset) half_unit.
struct ThcDecode {
  ConstTensor codes;
  std::int32_t offset;
  float half_unit;
  float* v;
};

}  // namespace gradwire::kernels

namespace gradwire {

struct ThcKernels {
  void (*encode)(const kernels::ThcEncode&);
  void (*decode)(const kernels::ThcDecode&);
};

}  // namespace gradwire
