/// \file `rotate` on device memory: all spans are rotated at once, into memory of the stream's pool, and coded there.
#include <algorithm>
#include <string_view>

#include "base/device.hpp"
#include "base/fail.hpp"
#include "compress/device/codecs.hpp"
#include "compress/quantize_params.hpp"
#include "compress/rotate.hpp"

namespace gradwire {
namespace {

/// Frames on a device have their places before anything is encoded.
void require_fixed_size(const Compressor& inner, std::string_view spec) {
  if (!inner.traits().fixed_size)
    fail(Errc::unsupported, "{}: frames of {} have sizes that depend on the data: not on device memory", spec,
         inner.spec());
}

}  // namespace

/// Frames of `quantize` are made and read for all whole spans at once; other inner compressors take a call a span.
std::optional<device::RotatedSpans> RotateCompressor::whole_spans(std::size_t count) const {
  if (inner_header_.codec != frame::Codec::quantize || count < layout_.span) return std::nullopt;
  const frame::Identity identity{inner_header_.codec, inner_header_.options};
  const std::size_t bytes = inner_.max_frame_size(layout_.span, DType::f32);
  return device::RotatedSpans{{count / layout_.span, layout_.span, bytes},
                              QuantizeParams::from_options(identity.options),
                              frame::device_frame(identity, layout_.span, DType::f32, bytes).start};
}

void RotateCompressor::encode_spans(const device::Rotation& rotation, const float* values, std::byte* frames,
                                    const RandomKey& key, StreamRef stream) const {
  const std::size_t bytes = inner_.max_frame_size(layout_.span, DType::f32);
  std::size_t first = rotation.begin;
  if (const auto whole = whole_spans(rotation.count - first)) {
    const kernels::QuantizeEncode job{
        whole->params, {values, layout_.span, DType::f32, Space::device}, frames + frame::kHeaderBytes, nullptr, key};
    device::quantize_encode(device::QuantizeEncodeRun{job, whole->start, whole->run}, stream);
    first += whole->run.frames * layout_.span;
  }
  for (; first < rotation.count; first += layout_.span) {
    const std::size_t padded = layout_.padded(std::min(layout_.span, rotation.count - first));
    const RandomKey inner_key{key.seed, key.step, key.param, key.first_element + first};
    const Bytes frame{frames + first / layout_.span * bytes, inner_.max_frame_size(padded, DType::f32), Space::device};
    inner_.encode({values + (first - rotation.begin), padded, DType::f32, Space::device}, frame, {}, inner_key, stream);
  }
}

void RotateCompressor::decode_spans(const device::Rotation& rotation, const std::byte* frames, float* values,
                                    StreamRef stream) const {
  const std::size_t bytes = inner_.max_frame_size(layout_.span, DType::f32);
  std::size_t first = rotation.begin;
  if (const auto whole = whole_spans(rotation.count - first)) {
    const kernels::QuantizeDecode job{
        whole->params, frames + frame::kHeaderBytes, {values, layout_.span, DType::f32, Space::device}, Write::assign};
    device::quantize_decode(device::QuantizeDecodeRun{job, whole->start, whole->run}, stream);
    first += whole->run.frames * layout_.span;
  }
  for (; first < rotation.count; first += layout_.span) {
    const std::size_t padded = layout_.padded(std::min(layout_.span, rotation.count - first));
    const ConstBytes frame{frames + first / layout_.span * bytes, inner_.max_frame_size(padded, DType::f32),
                           Space::device};
    inner_.decode(frame, {values + (first - rotation.begin), padded, DType::f32, Space::device}, Write::assign, stream);
  }
}

std::size_t RotateCompressor::encode_on_device(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key,
                                               StreamRef stream) const {
  require_fixed_size(inner_, spec_);
  const frame::OnDevice made = frame::begin_device(*this, {params_.codec, options()}, x, out, residual, stream);
  const bool has_factors = params_.scale != RotateScale::none;
  const bool clips = params_.clip > 0;
  device::Rotation rotation{x.count, layout_.block, has_factors};
  std::byte* const payload = out.data + frame::kHeaderBytes;
  std::byte* const frames = payload + kSignBytes + factor_bytes(x.count);
  auto* const lost = static_cast<float*>(residual.data);
  const auto whole = whole_spans(x.count);
  if (whole && !has_factors && !clips && device::can_rotate_and_quantize(rotation, *whole)) {
    device::rotate_quantize_encode(rotation, x, sign_key(key), *whole, frames, key, lost, payload, made.start, stream);
    rotation.begin = whole->run.frames * layout_.span;
    if (rotation.begin == x.count) return made.bytes;
  }
  const bool decodes = has_factors || lost != nullptr;
  const std::size_t bytes = (layout_.padded(x.count) - rotation.begin) * sizeof(float);
  const device::Scratch rotated(bytes, stream);
  const device::Scratch decoded(decodes || clips ? bytes : 0, stream);
  auto* const y = reinterpret_cast<float*>(rotated.data());
  auto* const q = reinterpret_cast<float*>(decoded.data());
  device::rotate_forward(rotation, x, sign_key(key), y, payload, made.start, stream);
  if (clips) device::rotate_clip(rotation, y, params_.clip, q, stream);
  encode_spans(rotation, clips ? q : y, frames, key, stream);
  if (!decodes) return made.bytes;
  decode_spans(rotation, frames, q, stream);
  if (has_factors) device::rotate_factors(rotation, y, q, params_.scale == RotateScale::unbiased, payload, stream);
  if (lost != nullptr) device::rotate_residual(rotation, q, x, lost, payload, made.start, stream);
  return made.bytes;
}

std::size_t RotateCompressor::decode_on_device(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
  require_fixed_size(inner_, spec_);
  const frame::OnDevice found = frame::open_device(*this, {params_.codec, options()}, in, y, stream);
  device::Rotation rotation{y.count, layout_.block, params_.scale != RotateScale::none};
  const std::byte* const payload = in.data + frame::kHeaderBytes;
  const std::byte* const frames = payload + kSignBytes + factor_bytes(y.count);
  const auto whole = whole_spans(y.count);
  if (whole && device::can_rotate_and_quantize(rotation, *whole)) {
    device::rotate_quantize_decode(rotation, *whole, frames, y, write, payload, found.start, stream);
    rotation.begin = whole->run.frames * layout_.span;
    if (rotation.begin == y.count) return found.bytes;
  }
  const device::Scratch decoded((layout_.padded(y.count) - rotation.begin) * sizeof(float), stream);
  auto* const q = reinterpret_cast<float*>(decoded.data());
  decode_spans(rotation, frames, q, stream);
  device::rotate_decode(rotation, q, y, write, payload, found.start, stream);
  return found.bytes;
}

}  // namespace gradwire
