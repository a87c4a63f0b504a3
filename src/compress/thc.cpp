#include "compress/thc.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/fail.hpp"
#include "compress/isa.hpp"
#include "compress/kernels.hpp"
#include "compress/quantize.hpp"
#include "compress/refuse.hpp"
#include "compress/thc_kernels.hpp"

namespace gradwire {
namespace {

/// T with P(|y| > T) = p for normal y.
float clip_for(double p) {
  double low = 0;
  double high = 16;
  for (int i = 0; i < 64; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(middle / std::sqrt(2.0)) > p ? low : high) = middle;
  }
  return static_cast<float>(high);
}

/// Sums up to this are exact in f32, also when doubled.
constexpr std::uint64_t kMaxSum = std::uint64_t{1} << 23;

std::string canonical_spec(const ThcParams& params) {
  return fmt::format("thc(bits={},block={},p={})", params.bits, params.block, params.p);
}

RotateParams frame_params(const ThcParams& params) {
  RotateParams rotate;
  rotate.block = params.block;
  rotate.codec = frame::Codec::thc;
  rotate.clip = clip_for(params.p);
  rotate.spec = canonical_spec(params);
  return rotate;
}

QuantizeParams code_params(const ThcParams& params) {
  return {params.bits, params.block, Norm::minmax, Rounding::stochastic};
}

}  // namespace

static_assert(CompressorImpl<ThcCompressor>);

ThcCoder::ThcCoder(const ThcParams& params, float clip, std::string_view spec)
    : layout_{params.block, params.block}, scale_{(1u << params.bits) - 1, clip}, spec_(spec) {}

bool ThcCoder::is_on_device(Space space, StreamRef stream) const {
  const bool on_device = space == Space::device;
  require(stream.is_host() != on_device, "{}: {} memory, given {}", spec_, name(space),
          on_device ? "the host's stream" : "a stream of a device");
  return on_device;
}

/// The transform keeps sums of squares, so the input's will do.
void ThcCoder::find_ranges(ConstTensor x, float* ranges, StreamRef stream) const {
  if (is_on_device(x.space, stream)) return device::thc_ranges(blocks(x.count, {}), x, ranges, stream);
  const ElementKernels& kernels = isa::kernels<ElementKernels>();
  const RotateScratch scratch = rotate_scratch(layout_.block);
  for (std::size_t first = 0; first < x.count; first += layout_.block) {
    const std::size_t count = std::min(layout_.block, x.count - first);
    const ConstTensor block = x.slice(first, count);
    const auto* values = static_cast<const float*>(block.data);
    if (x.dtype != DType::f32) {
      kernels.cast_decode({static_cast<const std::byte*>(block.data), x.dtype, {scratch.y, count}, Write::assign});
      values = scratch.y;
    }
    const double squares = kernels.sum_squares(values, count);
    const float range = thc::range_of(squares, layout_.padded(count));
    if (std::isnan(range)) refuse_non_finite(x, {first, count, spec_, "is above 2^112, whose sums may leave f32"});
    *ranges++ = range;
  }
}

DType ThcCoder::sum_dtype(int ranks) const {
  const std::uint64_t most = std::uint64_t{scale_.top} * static_cast<std::uint64_t>(ranks);
  if (most <= 0xff) return DType::u8;
  if (most <= 0xffff) return DType::u16;
  if (most <= kMaxSum) return DType::u32;
  fail(Errc::unsupported, "{}: sums of codes of {} ranks reach {}, of which f32 holds no more than {} exactly", spec_,
       ranks, most, kMaxSum);
}

void ThcCoder::encode(ConstTensor x, const float* ranges, Tensor codes, Tensor residual, const CodingKeys& keys,
                      StreamRef stream) const {
  if (is_on_device(x.space, stream)) {
    const device::ThcBlocks all = blocks(x.count, keys.shared);
    device::thc_encode(all, x, ranges, keys.own, codes, stream);
    if (residual.data != nullptr)
      device::thc_residual(all, codes, ranges, x, static_cast<float*>(residual.data), stream);
    return;
  }
  const kernels::SignKey signs = sign_key(keys.shared);
  const RotateScratch scratch = rotate_scratch(layout_.block);
  for (std::size_t first = 0; first < x.count; first += layout_.block) {
    const std::size_t count = std::min(layout_.block, x.count - first);
    const std::size_t size = layout_.padded(count);
    const kernels::SignKey block_signs = signs.from(first);
    const std::size_t ahead = first + 2 * layout_.block <= x.count ? layout_.block : 0;
    if (!isa::kernels<RotateKernels>().forward({x.slice(first, count), size, block_signs, scratch.y, ahead}))
      refuse_non_finite(x, {first, count, spec_});
    const float half = half_unit(*ranges++);
    const Tensor block_codes = codes.slice(first, size);
    RandomKey key = keys.own;
    key.first_element += first;
    isa::kernels<ThcKernels>().encode({scratch.y, thc::inverse_unit(half), scale_.top, key, block_codes});
    if (residual.data == nullptr) continue;
    isa::kernels<ThcKernels>().decode({block_codes, static_cast<std::int32_t>(scale_.top), half, scratch.q});
    isa::kernels<RotateKernels>().inverse({scratch.q, size, block_signs, rotation_factor(size), true,
                                           count == size ? static_cast<const float*>(residual.data) + first : nullptr});
    isa::kernels<ElementKernels>().scale_add(
        {x.slice(first, count), 1.0f, scratch.q, static_cast<float*>(residual.data) + first});
  }
}

/// The sum of n codes is decoded about n times the middle: sum (2 c - top) h = (2 sum c - n top) h.
void ThcCoder::decode(ConstTensor codes, int ranks, const float* ranges, Tensor y, const RandomKey& shared,
                      StreamRef stream) const {
  const std::int32_t offset = static_cast<std::int32_t>(scale_.top) * ranks;
  if (is_on_device(y.space, stream))
    return device::thc_decode(blocks(y.count, shared), codes, offset, ranges, y, stream);
  const kernels::SignKey signs = sign_key(shared);
  const RotateScratch scratch = rotate_scratch(layout_.block);
  for (std::size_t first = 0; first < y.count; first += layout_.block) {
    const std::size_t count = std::min(layout_.block, y.count - first);
    const std::size_t size = layout_.padded(count);
    isa::kernels<ThcKernels>().decode({codes.slice(first, size), offset, half_unit(*ranges++), scratch.q});
    isa::kernels<RotateKernels>().inverse(
        {scratch.q, size, signs.from(first), rotation_factor(size), false,
         count == size && y.dtype == DType::f32 ? static_cast<const float*>(y.data) + first : nullptr});
    isa::kernels<ElementKernels>().cast_decode(
        {reinterpret_cast<const std::byte*>(scratch.q), DType::f32, y.slice(first, count), Write::assign});
  }
}

ThcCompressor::ThcCompressor(const ThcParams& params)
    : frames_(frame_params(params), QuantizeCompressor(code_params(params))),
      coder_(params, clip_for(params.p), frames_.spec()) {}

Compressor make_thc(const Spec& spec) {
  ThcParams params;
  OptionReader options(spec, {"bits"});
  params.bits = options.number("bits", params.bits, 1, 8);
  params.block = options.number("block", params.block, kernels::kMinRotation, kernels::kMaxRotation, 32);
  params.p = options.real("p", params.p, 1e-6, 0.5);
  options.finish();
  require(std::has_single_bit(params.block), "compressor \"{}\": option block is {}; accepted: powers of two in {}..{}",
          spec.text, params.block, kernels::kMinRotation, kernels::kMaxRotation);
  return ThcCompressor(params);
}

}  // namespace gradwire
