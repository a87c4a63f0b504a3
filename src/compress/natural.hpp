#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "compress/frame.hpp"
#include "compress/quantize_params.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire {

/// `natural(round)`: each element to a neighbouring power of two, a byte each, without scales (natural compression,
/// arXiv:1905.10988). Rounding is stochastic, and then unbiased with variance of an eighth of x^2, or to nearest.
/// Powers are 2^-90 to 2^36: smaller elements become 0 or the least (without bias when stochastic), larger ones 2^36.
class NaturalCompressor final : public BatchCodec {
 public:
  explicit NaturalCompressor(Rounding round) : round_(round) {}

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
  [[nodiscard]] frame::Identity identity() const noexcept {
    return {frame::Codec::natural, static_cast<std::uint32_t>(round_)};
  }

  Rounding round_;
};

}  // namespace gradwire
