#include "compress/quantize.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/fail.hpp"
#include "compress/device/codecs.hpp"
#include "compress/frame.hpp"
#include "compress/isa.hpp"
#include "compress/kernels.hpp"
#include "compress/quantize_bound.hpp"
#include "compress/refuse.hpp"

namespace gradwire {
namespace {

/// Why a finite bucket is refused, after "the scale of elements a to b". Sums of squares leave f32 early.
std::string_view reason_of(const QuantizeParams& params) {
  switch (params.norm) {
    case Norm::l2:
    case Norm::clipped: return "is above 2^57, and the sum of their squares beyond f32";
    case Norm::mean: return "is above 2^114, and the sum of their magnitudes beyond f32 or their mean above 2^126";
    default: return "is above 2^126, which has no f32 inverse";
  }
}

[[noreturn]] void refuse_bucket(ConstTensor x, std::size_t first, const QuantizeParams& params, std::string_view spec) {
  refuse_non_finite(x, {first, std::min<std::size_t>(params.bucket, x.count - first), spec, reason_of(params)});
}

std::string canonical_spec(const QuantizeParams& params) {
  constexpr std::string_view kNorms[] = {"linf", "l2", "minmax"};
  constexpr std::string_view kRounds[] = {"nearest", "stochastic"};
  if (params.norm == Norm::mean) return fmt::format("sign(bucket={})", params.bucket);
  if (params.levels == Levels::ternary)
    return fmt::format("ternary(bucket={},clip={},pack={})", params.bucket, params.clip,
                       params.packing == Packing::trits ? "trits" : "bits");
  return fmt::format("quantize(bits={},bucket={},norm={},round={}{})", params.bits, params.bucket,
                     kNorms[static_cast<std::size_t>(params.norm)], kRounds[static_cast<std::size_t>(params.round)],
                     params.levels == Levels::exponential ? ",levels=exponential" : "");
}

}  // namespace

static_assert(CompressorImpl<QuantizeCompressor>);

QuantizeCompressor::QuantizeCompressor(const QuantizeParams& params) : params_(params), spec_(canonical_spec(params)) {}

frame::Identity QuantizeCompressor::identity() const noexcept {
  const bool is_ternary = params_.levels == Levels::ternary;
  return {is_ternary ? frame::Codec::ternary : frame::Codec::quantize, params_.options()};
}

CompressorTraits QuantizeCompressor::traits() const noexcept {
  CompressorTraits traits;
  traits.unbiased = params_.round == Rounding::stochastic && params_.norm != Norm::clipped;
  traits.block_elems = params_.bucket;
  traits.on_device = true;
  return traits;
}

double QuantizeCompressor::error_bound(std::size_t count) const noexcept {
  return quantize_error_bound(params_, std::min<std::size_t>(params_.bucket, count));
}

std::size_t QuantizeCompressor::max_frame_size(std::size_t count, DType) const {
  frame::check_count(count, spec_);
  return frame::kHeaderBytes + QuantizeLayout{params_, count}.payload_bytes();
}

std::size_t QuantizeCompressor::encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key,
                                       StreamRef stream) const {
  if (x.space == Space::device) {
    const EncodeJob job{x, out, residual, key};
    encode_batch({&job, 1}, stream);
    return max_frame_size(x.count, x.dtype);
  }
  const std::size_t frame_bytes = frame::begin_fixed(*this, identity(), x, out, residual, stream);
  const std::size_t encoded = isa::kernels<QuantizeKernels>().encode(
      {params_, x, out.data + frame::kHeaderBytes, static_cast<float*>(residual.data), key});
  if (encoded != x.count) refuse_bucket(x, encoded, params_, spec_);
  return frame_bytes;
}

std::size_t QuantizeCompressor::decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
  if (y.space == Space::device) {
    const DecodeJob job{in, y, write};
    decode_batch({&job, 1}, stream);
    return max_frame_size(y.count, y.dtype);
  }
  const frame::Opened opened = frame::open_fixed(*this, identity(), in, y, stream);
  isa::kernels<QuantizeKernels>().decode({params_, in.data + frame::kHeaderBytes, y, write});
  return opened.bytes;
}

void QuantizeCompressor::encode_batch(std::span<const EncodeJob> jobs, StreamRef stream) const {
  const auto job_of = [&](std::size_t i) {
    const auto made = encode_job(jobs[i], stream);
    return device::QuantizeEncodeRun{made.job, made.start};
  };
  device::quantize_encode(JobList<device::QuantizeEncodeRun>(jobs.size(), job_of), stream);
}

void QuantizeCompressor::decode_batch(std::span<const DecodeJob> jobs, StreamRef stream) const {
  const auto job_of = [&](std::size_t i) {
    const auto& [in, y, write] = jobs[i];
    const frame::OnDevice found = frame::open_device(*this, identity(), in, y, stream);
    return device::QuantizeDecodeRun{{params_, in.data + frame::kHeaderBytes, y, write}, found.start};
  };
  device::quantize_decode(JobList<device::QuantizeDecodeRun>(jobs.size(), job_of), stream);
}

device::Framed<kernels::QuantizeEncode> QuantizeCompressor::encode_job(const EncodeJob& job, StreamRef stream) const {
  const frame::OnDevice made = frame::begin_device(*this, identity(), job.x, job.out, job.residual, stream);
  return {{params_, job.x, job.out.data + frame::kHeaderBytes, static_cast<float*>(job.residual.data), job.key},
          made.start};
}

std::size_t QuantizeCompressor::max_frames(std::size_t) const noexcept {
  return device::can_quantize_sum(params_) ? device::SumMessages::kMost : 0;
}

void QuantizeCompressor::encode_sums(std::span<const SumJob> jobs, std::span<const ConstBytes> messages,
                                     StreamRef stream) const {
  require(messages.size() <= max_frames(0), "{}: sums of up to {} frames are encoded in one pass, not of {}", spec_,
          max_frames(0), messages.size());
  device::SumMessages sources;
  for (const ConstBytes& message : messages) sources.at[sources.count++] = message.data;
  const auto job_of = [&](std::size_t i) {
    const auto& [own, first] = jobs[i];
    const auto made = encode_job(own, stream);
    const std::size_t bytes = max_frame_size(own.x.count, DType::f32);
    for (const ConstBytes& message : messages) {
      require(first <= message.size && message.size - first >= bytes,
              "{}: a message of {} bytes has no frame of {} at {}", spec_, message.size, bytes, first);
      frame::check_device_decode(message.slice(first, bytes), {own.out.data, own.x.count, DType::f32, Space::device},
                                 bytes, spec_, stream);
    }
    return device::QuantizeSum{made.job, made.start, first};
  };
  device::quantize_sum(JobList<device::QuantizeSum>(jobs.size(), job_of), sources, stream);
}

std::vector<double> quantize_errors(ConstTensor x, const QuantizeParams& params, std::span<const std::uint32_t> bits) {
  std::vector<double> squares(bits.size());
  const std::size_t measured = isa::kernels<QuantizeKernels>().errors(
      {params, static_cast<const float*>(x.data), x.count, bits.data(), bits.size(), squares.data()});
  if (measured != x.count) refuse_bucket(x, measured, params, canonical_spec(params));
  return squares;
}

}  // namespace gradwire
