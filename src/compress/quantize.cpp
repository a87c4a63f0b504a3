#include "compress/quantize.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compress/frame.hpp"
#include "compress/isa.hpp"
#include "compress/kernels.hpp"
#include "compress/refuse.hpp"

namespace gradwire {
namespace {

std::string canonical_spec(const QuantizeParams& params) {
  constexpr std::string_view kNorms[] = {"linf", "l2", "minmax"};
  constexpr std::string_view kRounds[] = {"nearest", "stochastic"};
  return fmt::format("quantize(bits={},bucket={},norm={},round={})", params.bits, params.bucket,
                     kNorms[static_cast<std::size_t>(params.norm)], kRounds[static_cast<std::size_t>(params.round)]);
}

}  // namespace

static_assert(CompressorImpl<QuantizeCompressor>);

QuantizeCompressor::QuantizeCompressor(const QuantizeParams& params) : params_(params), spec_(canonical_spec(params)) {}

CompressorTraits QuantizeCompressor::traits() const noexcept {
  CompressorTraits traits;
  traits.unbiased = params_.round == Round::stochastic;
  traits.block_elems = params_.bucket;
  return traits;
}

/// Of one bucket of B elements, s its norm; ||x|| >= s for linf and l2, and range^2 <= 2 ||x||^2 for minmax.
double QuantizeCompressor::error_bound(std::size_t count) const noexcept {
  const auto b = static_cast<double>(std::max<std::size_t>(std::min<std::size_t>(params_.bucket, count), 1));
  const bool nearest = params_.round == Round::nearest;
  if (shape_of(params_) == CodeShape::sign) return b - 1;  // sum of (s - |x|)^2, or of s^2 - x^2
  if (shape_of(params_) == CodeShape::steps) {
    const auto steps = static_cast<double>(top_code(params_));
    return b / (2 * steps * steps);  // (unit / 2)^2 an element
  }
  const auto levels = static_cast<double>(levels_of(params_));
  // With linf one element lies on a level. An error is at most half a unit, and never more than the element itself.
  const double others = params_.norm == Norm::linf ? b - 1 : b;
  const double halves = others / (4 * levels * levels);
  if (nearest) return params_.norm == Norm::linf ? halves / (1 + halves) : std::min(halves, 1.0);
  return std::min(halves, std::sqrt(others) / levels);  // QSGD, lemma 3.1
}

std::size_t QuantizeCompressor::max_frame_size(std::size_t count, DType) const {
  frame::check_count(count, spec_);
  return frame::kHeaderBytes + QuantizeLayout{params_, count}.payload_bytes();
}

std::size_t QuantizeCompressor::encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key,
                                       StreamRef stream) const {
  frame::check_host(stream, spec_);
  const std::size_t frame_bytes = max_frame_size(x.count, x.dtype);
  frame::check_encode(x, out, residual, frame_bytes, spec_);
  frame::write_header(out.data,
                      {frame::Codec::quantize, x.dtype, params_.options(), static_cast<std::uint32_t>(x.count),
                       static_cast<std::uint32_t>(frame_bytes / frame::kAlign)});
  const std::size_t encoded = isa::kernels<QuantizeKernels>().encode(
      {params_, x, out.data + frame::kHeaderBytes, static_cast<float*>(residual.data), key});
  if (encoded != x.count)
    refuse_non_finite(x, {encoded, std::min<std::size_t>(params_.bucket, x.count - encoded), spec_});
  return frame_bytes;
}

std::size_t QuantizeCompressor::decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
  frame::check_host(stream, spec_);
  frame::check_decode(in, y, spec_);
  const frame::Header header = frame::read_header(in, {frame::Codec::quantize, params_.options(), y.count, spec_});
  const std::size_t frame_bytes = max_frame_size(y.count, header.dtype);
  frame::check_size(in, header, frame_bytes, spec_);
  isa::kernels<QuantizeKernels>().decode({params_, in.data + frame::kHeaderBytes, y, write});
  return frame_bytes;
}

}  // namespace gradwire
