#include "compress/natural.hpp"

#include <cstring>

#include "compress/frame.hpp"
#include "compress/isa.hpp"
#include "compress/natural_kernels.hpp"
#include "compress/refuse.hpp"

namespace gradwire {

static_assert(CompressorImpl<NaturalCompressor>);

std::string_view NaturalCompressor::spec() const noexcept {
  return round_ == Rounding::stochastic ? "natural(round=stochastic)" : "natural(round=nearest)";
}

CompressorTraits NaturalCompressor::traits() const noexcept {
  CompressorTraits traits;
  traits.unbiased = round_ == Rounding::stochastic;
  return traits;
}

/// Between powers p and 2p: (|x| - p)(2p - |x|) <= x^2 / 8, at |x| = 4/3 p; nearest errs by |x| / 3 at most, half-way.
double NaturalCompressor::error_bound(std::size_t) const noexcept {
  return round_ == Rounding::stochastic ? 1.0 / 8 : 1.0 / 9;
}

std::size_t NaturalCompressor::max_frame_size(std::size_t count, DType) const {
  frame::check_count(count, spec());
  return frame::kHeaderBytes + frame::align_up(count);
}

std::size_t NaturalCompressor::encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key,
                                      StreamRef stream) const {
  const std::size_t frame_bytes =
      frame::begin_fixed(*this, {frame::Codec::natural, static_cast<std::uint32_t>(round_)}, x, out, residual, stream);
  std::byte* const payload = out.data + frame::kHeaderBytes;
  auto* const codes = reinterpret_cast<std::uint8_t*>(payload);
  if (!isa::kernels<NaturalKernels>().encode({x, round_, codes, static_cast<float*>(residual.data), key}))
    refuse_non_finite(x, {0, x.count, spec()});  // a residual in x's place is not finite either where x is not
  std::memset(payload + x.count, 0, frame_bytes - frame::kHeaderBytes - x.count);
  return frame_bytes;
}

std::size_t NaturalCompressor::decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
  const frame::Opened opened =
      frame::open_fixed(*this, {frame::Codec::natural, static_cast<std::uint32_t>(round_)}, in, y, stream);
  const auto* const codes = reinterpret_cast<const std::uint8_t*>(in.data + frame::kHeaderBytes);
  isa::kernels<NaturalKernels>().decode({codes, y, write});
  return opened.bytes;
}

}  // namespace gradwire
