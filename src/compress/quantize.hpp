#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compress/device/jobs.hpp"
#include "compress/frame.hpp"
#include "compress/quantize_params.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire {

/// Codes of 1 to 8 bits with a scale per bucket of elements:
/// `quantize(...)` with uniform levels (QSGD, arXiv:1610.02132; norm=minmax has the values of CGX, arXiv:2111.08617) or
/// exponential ones (NUQSGD, arXiv:1908.06077); `sign(...)`, one bit and the mean magnitude, which contracts (signSGD
/// with error feedback, arXiv:1901.09847); `ternary(...)`, TernGrad (arXiv:1705.07878).
class QuantizeCompressor final : public SumEncoder, public BatchCodec {
 public:
  explicit QuantizeCompressor(const QuantizeParams& params);

  [[nodiscard]] std::string_view spec() const noexcept { return spec_; }
  [[nodiscard]] CompressorTraits traits() const noexcept;
  [[nodiscard]] std::size_t max_frame_size(std::size_t count, DType dtype) const;
  std::size_t encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key, StreamRef stream) const;
  std::size_t decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const;
  [[nodiscard]] double error_bound(std::size_t count) const noexcept;

  [[nodiscard]] const BatchCodec* batch_codec() const noexcept { return this; }
  void encode_batch(std::span<const EncodeJob> jobs, StreamRef stream) const override;
  void decode_batch(std::span<const DecodeJob> jobs, StreamRef stream) const override;
  [[nodiscard]] const SumEncoder* sum_encoder() const noexcept { return this; }
  [[nodiscard]] std::size_t max_frames(std::size_t count) const noexcept override;
  void encode_sums(std::span<const SumJob> jobs, std::span<const ConstBytes> messages, StreamRef stream) const override;

 private:
  [[nodiscard]] frame::Identity identity() const noexcept;
  [[nodiscard]] device::Framed<kernels::QuantizeEncode> encode_job(const EncodeJob& job, StreamRef stream) const;

  QuantizeParams params_;
  std::string spec_;
};

/// Of `quantize`, whatever its levels, with nothing behind it, by its spec; nothing for all else.
[[nodiscard]] std::optional<std::uint32_t> quantize_bits(const Compressor& compressor);
/// Of `quantize` with uniform levels and nothing behind it, by its spec; nothing for all else.
[[nodiscard]] std::optional<QuantizeParams> uniform_params(const Compressor& compressor);

/// Whether quantize_errors() takes it: rounded to nearest, with a level for each code (not signs).
[[nodiscard]] constexpr bool has_quantize_errors(const QuantizeParams& params) noexcept {
  return params.round == Rounding::nearest &&
         (shape_of(params) == CodeShape::levels || shape_of(params) == CodeShape::steps);
}
/// Of each of `bits` (at most 8), the sum of squares of the residuals that encode() would give, by one pass over x
/// (f32, host) and without encoding; all else is as in `params`. Throws Errc::non_finite, as encode().
[[nodiscard]] std::vector<double> quantize_errors(ConstTensor x, const QuantizeParams& params,
                                                  std::span<const std::uint32_t> bits);

}  // namespace gradwire
