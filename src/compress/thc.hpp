#pragma once
#include <string>
#include <string_view>

#include "compress/device/integer_codes.hpp"
#include "compress/rotate.hpp"

namespace gradwire {

struct ThcParams {
  std::uint32_t bits = 4;
  std::uint32_t block = 4096;  ///< elements that are rotated together and share a range: a power of two
  double p = 1.0 / 32;         ///< share of a normal distribution that is clipped
};

/// Codes 0 .. top = 2^bits - 1 of rotated values, evenly over [-T s, T s]; s, the range of a block, is the largest of
/// the ranks' root mean squares.
class ThcCoder final : public IntegerCoder {
 public:
  ThcCoder(const ThcParams& params, float clip, std::string_view spec);

  [[nodiscard]] bool on_device() const noexcept override { return true; }
  [[nodiscard]] std::size_t ranges(std::size_t count) const override { return layout_.blocks(count); }
  void find_ranges(ConstTensor x, float* ranges, StreamRef stream) const override;
  [[nodiscard]] DType sum_dtype(int ranks) const override;
  [[nodiscard]] std::size_t codes(std::size_t count) const override { return layout_.padded(count); }
  void encode(ConstTensor x, const float* ranges, Tensor codes, Tensor residual, const CodingKeys& keys,
              StreamRef stream) const override;
  void decode(ConstTensor codes, int ranks, const float* ranges, Tensor y, const RandomKey& shared,
              StreamRef stream) const override;

 private:
  [[nodiscard]] float half_unit(float range) const noexcept { return thc::half_unit(scale_, range); }
  /// Whether a call is one of device memory. Throws Errc::invalid_argument for a stream of the other kind.
  [[nodiscard]] bool is_on_device(Space space, StreamRef stream) const;
  [[nodiscard]] device::ThcBlocks blocks(std::size_t count, const RandomKey& shared) const noexcept {
    return {{count, layout_.block, false}, scale_, sign_key(shared)};
  }

  RotateLayout layout_;
  thc::Scale scale_;
  std::string spec_;
};

/// `thc(...)`: clipped, stochastically rounded integers of rotated values, which ranks add without decoding. After THC
/// (arXiv:2302.08545) with a uniform table: its other tables save bits on the way to a server that looks integers up,
/// while an all-reduce adds the integers themselves, of which a table would only leave some out.
class ThcCompressor {
 public:
  explicit ThcCompressor(const ThcParams& params);

  [[nodiscard]] std::string_view spec() const noexcept { return frames_.spec(); }
  [[nodiscard]] CompressorTraits traits() const noexcept { return frames_.traits(); }
  [[nodiscard]] std::size_t max_frame_size(std::size_t count, DType dtype) const {
    return frames_.max_frame_size(count, dtype);
  }
  /// Frames, for the other algorithms: `rotate(quantize(bits,norm=minmax,round=stochastic),clip=T)` under another name.
  std::size_t encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key, StreamRef stream) const {
    return frames_.encode(x, out, residual, key, stream);
  }
  std::size_t decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
    return frames_.decode(in, y, write, stream);
  }
  [[nodiscard]] double error_bound(std::size_t count) const { return frames_.error_bound(count); }
  [[nodiscard]] const IntegerCoder* integer_coder() const noexcept { return &coder_; }

 private:
  RotateCompressor frames_;
  ThcCoder coder_;
};

/// "thc(4)", "thc(bits=4,p=0.03125)".
[[nodiscard]] Compressor make_thc(const Spec& spec);

}  // namespace gradwire
