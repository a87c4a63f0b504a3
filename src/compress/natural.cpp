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
  if (x.space == Space::device) {
    const EncodeJob job{x, out, residual, key};
    encode_batch({&job, 1}, stream);
    return max_frame_size(x.count, x.dtype);
  }
  const std::size_t frame_bytes = frame::begin_fixed(*this, identity(), x, out, residual, stream);
  std::byte* const payload = out.data + frame::kHeaderBytes;
  if (!isa::kernels<NaturalKernels>().encode(
          {x, round_, reinterpret_cast<std::uint8_t*>(payload), static_cast<float*>(residual.data), key}))
    refuse_non_finite(x, {0, x.count, spec()});  // a residual in x's place is not finite either where x is not
  std::memset(payload + x.count, 0, frame_bytes - frame::kHeaderBytes - x.count);
  return frame_bytes;
}

std::size_t NaturalCompressor::decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
  if (y.space == Space::device) {
    const DecodeJob job{in, y, write};
    decode_batch({&job, 1}, stream);
    return max_frame_size(y.count, y.dtype);
  }
  const frame::Opened opened = frame::open_fixed(*this, identity(), in, y, stream);
  isa::kernels<NaturalKernels>().decode(
      {reinterpret_cast<const std::uint8_t*>(in.data + frame::kHeaderBytes), y, write});
  return opened.bytes;
}

void NaturalCompressor::encode_batch(std::span<const EncodeJob> jobs, StreamRef stream) const {
  const auto job_of = [&](std::size_t i) {
    const auto& [x, out, residual, key] = jobs[i];
    const frame::OnDevice made = frame::begin_device(*this, identity(), x, out, residual, stream);
    auto* const codes = reinterpret_cast<std::uint8_t*>(out.data + frame::kHeaderBytes);
    return device::Framed<kernels::NaturalEncode>{{x, round_, codes, static_cast<float*>(residual.data), key},
                                                  made.start};
  };
  device::natural_encode(JobList<device::Framed<kernels::NaturalEncode>>(jobs.size(), job_of), stream);
}

void NaturalCompressor::decode_batch(std::span<const DecodeJob> jobs, StreamRef stream) const {
  const auto job_of = [&](std::size_t i) {
    const auto& [in, y, write] = jobs[i];
    const frame::OnDevice found = frame::open_device(*this, identity(), in, y, stream);
    const auto* const codes = reinterpret_cast<const std::uint8_t*>(in.data + frame::kHeaderBytes);
    return device::Framed<kernels::NaturalDecode>{{codes, y, write}, found.start};
  };
  device::natural_decode(JobList<device::Framed<kernels::NaturalDecode>>(jobs.size(), job_of), stream);
}

}  // namespace gradwire
