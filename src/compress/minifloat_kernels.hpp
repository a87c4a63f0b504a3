#pragma once
#include <cstddef>

#include "compress/minifloat_params.hpp"

#include "gradwire/compressor.hpp"
#include "gradwire/types.hpp"

/// \file The inner loops behind `f8`, `mx4`, `mx6`, `mx8` and `nvfp4` (compress/isa.hpp). Arguments are checked by the
/// callers; all memory is host memory, any alignment.
namespace gradwire::kernels {

struct MinifloatEncode {
  MinifloatParams params;
  ConstTensor x;
  std::byte* payload;
  float* residual;  ///< or null; may be x
  RandomKey key;
};

struct MinifloatDecode {
  MinifloatParams params;
  const std::byte* payload;
  Tensor y;
  Write write;
};

}  // namespace gradwire::kernels

namespace gradwire {

struct MinifloatKernels {
  /// Elements before the first block whose largest magnitude has no scale: x.count when all is well.
  std::size_t (*encode)(const kernels::MinifloatEncode&);
  void (*decode)(const kernels::MinifloatDecode&);
};

}  // namespace gradwire
