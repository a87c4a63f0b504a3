#pragma once
#include <span>
#include <string>
#include <string_view>

#include "compress/frame.hpp"
#include "compress/minifloat_params.hpp"
#include "compress/spec.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire {

/// Block floating point: elements of 4, 6 or 8 bits that are small floating-point numbers, and scales that neighbours
/// share.
///
/// - `f8(format,block)`: E4M3 or E5M2 with an f32 scale a block, which the largest element of a block just fills.
///   Formats: OCP 8-bit Floating Point Specification (OFP8) 1.0, after "FP8 Formats for Deep Learning",
///   arXiv:2209.05433.
/// - `mx4`, `mx6(format)`, `mx8(format)`: OCP Microscaling Formats (MX) 1.0, arXiv:2310.10537. Blocks of 32 have a
///   power of two as their scale. What lies above the format's largest number saturates, and the residual keeps the
///   rest.
/// - `nvfp4(span)`: E2M1 in groups of 16 with an E4M3 scale, as NVIDIA's NVFP4. Its second scale, an f32, is shared by
///   a span of elements instead of a tensor: so a frame needs one pass over memory, and pieces of a tensor cut at
///   multiples of a span give the values of the whole.
///
/// All round to nearest even, or stochastically.
class MinifloatCompressor final : public BatchCodec {
 public:
  explicit MinifloatCompressor(const MinifloatParams& params);

  [[nodiscard]] std::string_view spec() const noexcept { return spec_; }
  [[nodiscard]] CompressorTraits traits() const noexcept;
  [[nodiscard]] std::size_t max_frame_size(std::size_t count, DType dtype) const;
  std::size_t encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key, StreamRef stream) const;
  std::size_t decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const;
  [[nodiscard]] double error_bound(std::size_t count) const noexcept;

  [[nodiscard]] const BatchCodec* batch_codec() const noexcept { return this; }
  void encode_batch(std::span<const EncodeJob> jobs, StreamRef stream) const override;
  void decode_batch(std::span<const DecodeJob> jobs, StreamRef stream) const override;

 private:
  [[nodiscard]] frame::Identity identity() const noexcept { return {frame::Codec::minifloat, params_.options()}; }

  MinifloatParams params_;
  std::string spec_;
};

/// Reads the options of f8, mx4, mx6, mx8 and nvfp4, by the spec's name.
[[nodiscard]] Compressor make_minifloat(const Spec& spec);

}  // namespace gradwire
