#include "compress/natural.hpp"

#include <cstring>

#include "compress/device/codecs.hpp"
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
  traits.on_device = true;
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
  std::byte* const payload = out.data + frame::kHeaderBytes;
  const kernels::NaturalEncode job{x, round_, reinterpret_cast<std::uint8_t*>(payload),
                                   static_cast<float*>(residual.data), key};
  if (x.space == Space::device) {
    const frame::OnDevice made = frame::begin_device(*this, identity(), x, out, residual, stream);
    device::natural_encode(job, made.start, stream);
    return made.bytes;
  }
  const std::size_t frame_bytes = frame::begin_fixed(*this, identity(), x, out, residual, stream);
  if (!isa::kernels<NaturalKernels>().encode(job))
    refuse_non_finite(x, {0, x.count, spec()});  // a residual in x's place is not finite either where x is not
  std::memset(payload + x.count, 0, frame_bytes - frame::kHeaderBytes - x.count);
  return frame_bytes;
}

std::size_t NaturalCompressor::decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
  const kernels::NaturalDecode job{reinterpret_cast<const std::uint8_t*>(in.data + frame::kHeaderBytes), y, write};
  if (y.space == Space::device) {
    const frame::OnDevice found = frame::open_device(*this, identity(), in, y, stream);
    device::natural_decode(job, found.start, stream);
    return found.bytes;
  }
  const frame::Opened opened = frame::open_fixed(*this, identity(), in, y, stream);
  isa::kernels<NaturalKernels>().decode(job);
  return opened.bytes;
}

}  // namespace gradwire
