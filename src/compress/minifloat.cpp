#include "compress/minifloat.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compress/device/codecs.hpp"
#include "compress/frame.hpp"
#include "compress/isa.hpp"
#include "compress/minifloat_kernels.hpp"
#include "compress/refuse.hpp"

namespace gradwire {
namespace {

std::string canonical_spec(const MinifloatParams& params) {
  constexpr std::string_view kFormats[] = {"e2m1", "e2m3", "e3m2", "e4m3", "e5m2"};
  const std::string_view format = kFormats[static_cast<std::size_t>(params.format)];
  const std::string_view round = params.round == Rounding::nearest ? "nearest" : "stochastic";
  switch (params.scale) {
    case MinifloatScale::f32: return fmt::format("f8(format={},block={},round={})", format, params.block, round);
    case MinifloatScale::nvfp4: return fmt::format("nvfp4(span={},round={})", params.block, round);
    case MinifloatScale::e8m0: break;
  }
  if (params.format == MinifloatFormat::e2m1) return fmt::format("mx4(round={})", round);
  return fmt::format("mx{}(format={},round={})", params.shape().bits(), format, round);
}

/// Errors of elements against the step of a format's subnormal numbers and against themselves.
struct ElementErrors {
  double step;       ///< of subnormal numbers, in elements' units
  double least_top;  ///< what a block's largest element is at least, in the same units
  double relative;   ///< largest E[error^2] / x^2 of normal numbers and of those that saturate
};

ElementErrors element_errors(const MinifloatParams& params) {
  const MinifloatShape shape = params.shape();
  const double gap = std::ldexp(1.0, -shape.mantissa_bits);
  const double top = std::ldexp(1.0, shape.top_exponent());
  // Nearest: at most gap / 2 away from 1 + gap / 2. Stochastic: the variance (v - a)(b - v) between neighbours a and b
  // is at most (b - a)^2 / (4 a b) of v^2.
  const bool nearest = params.round == Rounding::nearest;
  const double relative = nearest ? gap / (2 + gap) : std::sqrt(gap * gap / (4 * (1 + gap)));
  const double step = std::ldexp(1.0, shape.least_exponent() - shape.mantissa_bits);
  const auto max = static_cast<double>(shape.max());
  switch (params.scale) {
    case MinifloatScale::e8m0: return {step, top, std::max(relative, (2 * top - max) / (2 * top))};
    case MinifloatScale::f32: return {step, max, relative};
    // A normal E4M3 scale is at most 1/16 of itself too large, or 1/8 where it is rounded up.
    case MinifloatScale::nvfp4: return {step, max / (nearest ? 17.0 / 16 : 9.0 / 8), relative};
  }
  return {};
}

}  // namespace

static_assert(CompressorImpl<MinifloatCompressor>);

MinifloatCompressor::MinifloatCompressor(const MinifloatParams& params)
    : params_(params), spec_(canonical_spec(params)) {}

CompressorTraits MinifloatCompressor::traits() const noexcept {
  CompressorTraits traits;
  // Powers of two leave elements that saturate: their error has a sign.
  traits.unbiased = params_.round == Rounding::stochastic && params_.scale != MinifloatScale::e8m0;
  traits.block_elems = params_.block;
  traits.on_device = true;
  return traits;
}

/// Of one block of B elements in its own units, S the squares of its normal elements, T those of its subnormal ones,
/// and A <= max |x| the least that its largest element, which is normal, can be.
///
/// Nearest: a normal element's error is at most r of it. A subnormal one's is at most half a step h, and at most the
/// element, as 0 is a number: so the squares sum to at most r^2 S + min((B - 1) h^2, T). Over S + T that is largest
/// where T = (B - 1) h^2 and S = A^2, which gives (r^2 + a) / (1 + a), a = (B - 1) h^2 / A^2.
///
/// Stochastic: the variance of a subnormal element is at most (step / 2)^2, and at most step |x|, which sum to at most
/// (B - 1) step^2 / 4 and step sqrt((B - 1) T); over S + T with S >= A^2, to (B - 1) (step / A)^2 / 4 and
/// sqrt(B - 1) step / (2 A).
///
/// nvfp4's groups whose scale is below 2^-6, where E4M3 is subnormal, come on top: each of their elements errs by at
/// most 2^-6 of the span's unit, which is 1/2688 of its largest element. And 2^-20 for the rounding of scales and
/// products in f32.
double MinifloatCompressor::error_bound(std::size_t count) const noexcept {
  const bool groups = params_.scale == MinifloatScale::nvfp4;
  const std::size_t sharing = groups ? MinifloatParams::kGroup : params_.block;
  const auto others = static_cast<double>(std::max<std::size_t>(std::min(sharing, count), 1) - 1);
  const ElementErrors errors = element_errors(params_);
  const double steps = errors.step / errors.least_top;
  const double halves = others * steps * steps / 4;
  const double square = errors.relative * errors.relative;
  double bound = params_.round == Rounding::nearest ? (square + halves) / (1 + halves)
                                                    : square + std::min(halves, std::sqrt(others) * steps / 2);
  if (groups) bound += static_cast<double>(std::min<std::size_t>(params_.block, count)) * std::pow(0x1p-6 / 2688, 2);
  return bound + 0x1p-20;
}

std::size_t MinifloatCompressor::max_frame_size(std::size_t count, DType) const {
  frame::check_count(count, spec_);
  return frame::kHeaderBytes + MinifloatLayout{params_, count}.payload_bytes();
}

std::size_t MinifloatCompressor::encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key,
                                        StreamRef stream) const {
  if (x.space == Space::device) {
    const EncodeJob job{x, out, residual, key};
    encode_batch({&job, 1}, stream);
    return max_frame_size(x.count, x.dtype);
  }
  const std::size_t frame_bytes = frame::begin_fixed(*this, identity(), x, out, residual, stream);
  const std::size_t encoded = isa::kernels<MinifloatKernels>().encode(
      {params_, x, out.data + frame::kHeaderBytes, static_cast<float*>(residual.data), key});
  if (encoded != x.count)
    refuse_non_finite(x, {encoded, std::min<std::size_t>(params_.block, x.count - encoded), spec_});
  return frame_bytes;
}

std::size_t MinifloatCompressor::decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
  if (y.space == Space::device) {
    const DecodeJob job{in, y, write};
    decode_batch({&job, 1}, stream);
    return max_frame_size(y.count, y.dtype);
  }
  const frame::Opened opened = frame::open_fixed(*this, identity(), in, y, stream);
  isa::kernels<MinifloatKernels>().decode({params_, in.data + frame::kHeaderBytes, y, write});
  return opened.bytes;
}

void MinifloatCompressor::encode_batch(std::span<const EncodeJob> jobs, StreamRef stream) const {
  const auto job_of = [&](std::size_t i) {
    const auto& [x, out, residual, key] = jobs[i];
    const frame::OnDevice made = frame::begin_device(*this, identity(), x, out, residual, stream);
    return device::Framed<kernels::MinifloatEncode>{
        {params_, x, out.data + frame::kHeaderBytes, static_cast<float*>(residual.data), key}, made.start};
  };
  device::minifloat_encode(JobList<device::Framed<kernels::MinifloatEncode>>(jobs.size(), job_of), stream);
}

void MinifloatCompressor::decode_batch(std::span<const DecodeJob> jobs, StreamRef stream) const {
  const auto job_of = [&](std::size_t i) {
    const auto& [in, y, write] = jobs[i];
    const frame::OnDevice found = frame::open_device(*this, identity(), in, y, stream);
    return device::Framed<kernels::MinifloatDecode>{{params_, in.data + frame::kHeaderBytes, y, write}, found.start};
  };
  device::minifloat_decode(JobList<device::Framed<kernels::MinifloatDecode>>(jobs.size(), job_of), stream);
}

Compressor make_minifloat(const Spec& spec) {
  MinifloatParams params;
  const auto read_format = [&](OptionReader& options) {
    const bool six = spec.name == "mx6";
    const std::size_t chosen = options.choice("format", 0,
                                              six ? std::initializer_list<std::string_view>{"e2m3", "e3m2"}
                                                  : std::initializer_list<std::string_view>{"e4m3", "e5m2"});
    params.format = static_cast<MinifloatFormat>((six ? 1 : 3) + chosen);
  };
  const auto finish = [&](OptionReader& options) {
    params.round = static_cast<Rounding>(options.choice("round", 0, {"nearest", "stochastic"}));
    options.finish();
    return MinifloatCompressor(params);
  };
  if (spec.name == "f8") {
    OptionReader options(spec, {"format", "block"});
    read_format(options);
    params.block = options.number("block", params.block, 32, MinifloatParams::kMaxBlock, 32);
    return finish(options);
  }
  if (spec.name == "nvfp4") {
    OptionReader options(spec, {"span"});
    params = {MinifloatFormat::e2m1, MinifloatScale::nvfp4, 0, Rounding::nearest};
    params.block = options.number("span", 2048, 32, MinifloatParams::kMaxBlock, 32);
    return finish(options);
  }
  params = {MinifloatFormat::e2m1, MinifloatScale::e8m0, MinifloatParams::kMxBlock, Rounding::nearest};
  if (spec.name == "mx4") {
    OptionReader options(spec);
    return finish(options);
  }
  OptionReader options(spec, {"format"});
  read_format(options);
  return finish(options);
}

}  // namespace gradwire
