#pragma once
#include <span>
#include <string_view>

#include "compress/frame.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire {

/// `none`, `f16` and `bf16`: the elements themselves, possibly in 16 bits.
class CastCompressor final : public BatchCodec {
 public:
  /// `codec` is none, f16 or bf16.
  explicit CastCompressor(frame::Codec codec) noexcept : codec_(codec) {}

  [[nodiscard]] std::string_view spec() const noexcept;
  [[nodiscard]] CompressorTraits traits() const noexcept;
  [[nodiscard]] std::size_t max_frame_size(std::size_t count, DType dtype) const;
  std::size_t encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key, StreamRef stream) const;
  std::size_t decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const;
  [[nodiscard]] double error_bound(std::size_t count) const noexcept;

  [[nodiscard]] const BatchCodec* batch_codec() const noexcept { return this; }
  void encode_batch(std::span<const EncodeJob> jobs, StreamRef stream) const override;
  void decode_batch(std::span<const DecodeJob> jobs, StreamRef stream) const override;

 private:
  [[nodiscard]] DType frame_dtype(ConstBytes in, const Tensor& y) const;
  [[nodiscard]] DType payload_dtype(DType input) const noexcept;

  frame::Codec codec_;
};

}  // namespace gradwire
