#pragma once
#include <cstdint>

#include "gradwire/types.hpp"

/// \file Jobs of the loops over elements (compress/vector_ops.hpp).
namespace gradwire::ops {

/// What is copied, bit for bit, to memory of the same dtype, of 2 or 4 bytes; zeros where `from` is null. Both at
/// multiples of it.
struct CopyJob {
  const void* from;
  Tensor to;
};

/// `from` in the dtype of `to`.
struct Convert {
  ConstTensor from;
  Tensor to;
};

/// out = x * scale + addend, each rounded on its own.
struct ScaleAdd {
  ConstTensor x;
  float scale;
  const float* addend;  ///< or null
  float* out;           ///< may be x or addend
};

/// Sets `flag`, of the device or pinned, to 1 where x holds NaN or Inf.
struct FindNonFinite {
  ConstTensor x;
  std::uint32_t* flag;
};

}  // namespace gradwire::ops
