#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/quantize_params.hpp"

#include "gradwire/compressor.hpp"

/// \file The inner loops behind `natural`. Arguments are checked by the callers; all memory is host memory, any
/// alignment.
namespace gradwire::kernels {

/// x to a byte each; residual = x - decoded unless null.
struct NaturalEncode {
  ConstTensor x;
  Rounding round;
  std::uint8_t* codes;
  float* residual;  ///< or null; may be x
  RandomKey key;
};

struct NaturalDecode {
  const std::uint8_t* codes;
  Tensor y;
  Write write;
};

}  // namespace gradwire::kernels

namespace gradwire {

struct NaturalKernels {
  bool (*encode)(const kernels::NaturalEncode&);  ///< false when x holds NaN or Inf
  void (*decode)(const kernels::NaturalDecode&);
};

}  // namespace gradwire
