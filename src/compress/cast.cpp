#include "compress/cast.hpp"

#include <cstring>

#include "compress/device/codecs.hpp"
#include "compress/isa.hpp"
#include "compress/kernels.hpp"
#include "compress/refuse.hpp"

namespace gradwire {

static_assert(CompressorImpl<CastCompressor>);

std::string_view CastCompressor::spec() const noexcept {
  switch (codec_) {
    case frame::Codec::f16: return "f16";
    case frame::Codec::bf16: return "bf16";
    default: return "none";
  }
}

CompressorTraits CastCompressor::traits() const noexcept {
  CompressorTraits traits;
  traits.lossless = codec_ == frame::Codec::none;
  traits.unbiased = traits.lossless;
  traits.on_device = true;
  return traits;
}

/// Half a unit in the last place, for values in the target's normal range.
double CastCompressor::error_bound(std::size_t) const noexcept {
  switch (codec_) {
    case frame::Codec::f16: return 0x1p-22;
    case frame::Codec::bf16: return 0x1p-16;
    default: return 0;
  }
}

DType CastCompressor::payload_dtype(DType input) const noexcept {
  switch (codec_) {
    case frame::Codec::f16: return DType::f16;
    case frame::Codec::bf16: return DType::bf16;
    default: return input;
  }
}

std::size_t CastCompressor::max_frame_size(std::size_t count, DType dtype) const {
  frame::check_count(count, spec());
  return frame::kHeaderBytes + frame::align_up(count * size_of(payload_dtype(dtype)));
}

std::size_t CastCompressor::encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey&,
                                   StreamRef stream) const {
  if (x.space == Space::device) {
    const EncodeJob job{x, out, residual};
    encode_batch({&job, 1}, stream);
    return max_frame_size(x.count, x.dtype);
  }
  const std::size_t frame_bytes = frame::begin_fixed(*this, {codec_, 0}, x, out, residual, stream);
  std::byte* const payload = out.data + frame::kHeaderBytes;
  const DType to = payload_dtype(x.dtype);
  if (!isa::kernels<ElementKernels>().cast_encode({x, payload, to, static_cast<float*>(residual.data)}))
    refuse_non_finite(x, {0, x.count, spec()});
  const std::size_t written = x.count * size_of(to);
  std::memset(payload + written, 0, frame_bytes - frame::kHeaderBytes - written);
  return frame_bytes;
}

/// A frame of `none` is of its input's dtype, which is known by its size, or by its first bytes where that is the same.
DType CastCompressor::frame_dtype(ConstBytes in, const Tensor& y) const {
  DType dtype = y.dtype;
  for (const DType each : {DType::f32, DType::f16}) {
    if (in.size == max_frame_size(y.count, each)) dtype = each;
  }
  return dtype;
}

void CastCompressor::encode_batch(std::span<const EncodeJob> jobs, StreamRef stream) const {
  const auto job_of = [&](std::size_t i) {
    const auto& [x, out, residual, key] = jobs[i];
    const frame::OnDevice made = frame::begin_device(*this, {codec_, 0}, x, out, residual, stream);
    return device::Framed<kernels::CastEncode>{
        {x, out.data + frame::kHeaderBytes, payload_dtype(x.dtype), static_cast<float*>(residual.data)}, made.start};
  };
  device::cast_encode(JobList<device::Framed<kernels::CastEncode>>(jobs.size(), job_of), stream);
}

void CastCompressor::decode_batch(std::span<const DecodeJob> jobs, StreamRef stream) const {
  const auto job_of = [&](std::size_t i) {
    const auto& [in, y, write] = jobs[i];
    const DType dtype = frame_dtype(in, y);
    const std::size_t bytes = max_frame_size(y.count, dtype);
    frame::check_device_decode(in, y, bytes, spec(), stream);
    const frame::OnDevice found = frame::device_frame({codec_, 0}, y.count, dtype, bytes);
    return device::Framed<kernels::CastDecode>{{in.data + frame::kHeaderBytes, payload_dtype(dtype), y, write},
                                               found.start};
  };
  device::cast_decode(JobList<device::Framed<kernels::CastDecode>>(jobs.size(), job_of), codec_ == frame::Codec::none,
                      stream);
}

std::size_t CastCompressor::decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
  if (y.space == Space::device) {
    const DecodeJob job{in, y, write};
    decode_batch({&job, 1}, stream);
    return in.size;
  }
  const frame::Opened opened = frame::open_fixed(*this, {codec_, 0}, in, y, stream);
  isa::kernels<ElementKernels>().cast_decode({in.data + frame::kHeaderBytes, payload_dtype(opened.dtype), y, write});
  return opened.bytes;
}

}  // namespace gradwire
