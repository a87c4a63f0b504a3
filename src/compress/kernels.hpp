#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "compress/element_jobs.hpp"
#include "compress/quantize_params.hpp"

#include "gradwire/compressor.hpp"
#include "gradwire/types.hpp"

/// \file The inner loops behind the casts, `quantize` and vector_ops, as families of kernels (compress/isa.hpp).
/// Arguments are checked by the callers; all memory is host memory, any alignment.
namespace gradwire::kernels {

/// x to `payload` as dtype `to`, saturating; residual = x - payload unless null.
struct CastEncode {
  ConstTensor x;
  std::byte* payload;
  DType to;
  float* residual;
};

/// `payload` of dtype `from` to y.
struct CastDecode {
  const std::byte* payload;
  DType from;
  Tensor y;
  Write write;
};

struct QuantizeEncode {
  QuantizeParams params;
  ConstTensor x;
  std::byte* payload;
  float* residual;  ///< or null; may be x
  RandomKey key;
  const float* codebook =
      nullptr;  ///< of learned levels: 2^bits, ascending, symmetric about that of number levels_of()
};

/// What each of several numbers of bits would lose, without encoding: uniform levels, rounded to nearest, not signs.
struct QuantizeErrors {
  QuantizeParams params;  ///< what they have in common: bucket and norm
  const float* x;
  std::size_t count;
  const std::uint32_t* bits;  ///< 2 to 8, of minmax also 1
  std::size_t widths;         ///< at most 8
  double* squares;            ///< of each: the sum of squares of the residuals that encoding gives
};

struct QuantizeDecode {
  QuantizeParams params;
  const std::byte* payload;
  Tensor y;
  Write write;
};

}  // namespace gradwire::kernels

namespace gradwire {

/// Casts and the loops of vector_ops.
struct ElementKernels {
  bool (*cast_encode)(const kernels::CastEncode&);  ///< false when x holds NaN or Inf
  void (*cast_decode)(const kernels::CastDecode&);
  void (*scale_add)(const ops::ScaleAdd&);
  bool (*all_finite)(ConstTensor);
  /// As 16 interleaved partial sums, added pairwise: the same on every instruction set.
  double (*sum_squares)(const float*, std::size_t);
};

struct QuantizeKernels {
  /// Elements encoded before the first bucket without a finite scale: x.count when all is well.
  std::size_t (*encode)(const kernels::QuantizeEncode&);
  void (*decode)(const kernels::QuantizeDecode&);
  /// As `encode`. Squares are summed as sum_squares() does.
  std::size_t (*errors)(const kernels::QuantizeErrors&);
};

}  // namespace gradwire
