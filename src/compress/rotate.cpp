#include "compress/rotate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/fail.hpp"
#include "compress/isa.hpp"
#include "compress/kernels.hpp"
#include "compress/quantize_params.hpp"
#include "compress/refuse.hpp"
#include "compress/rotate_arithmetic.hpp"

#include "gradwire/buffer.hpp"

namespace gradwire {
namespace {

/// Spans stay in the second-level cache, and are long enough that the headers of their frames do not count.
constexpr std::size_t kSpanElems = 16384;
constexpr std::size_t kMaxSpan = 65536;
/// How far ahead of a transform its input is asked for: about one block of it.
constexpr std::size_t kAheadElems = 4096;

/// Header of a frame without elements: codec and options are those of all the compressor's frames.
frame::Header header_of(const Compressor& compressor) {
  const std::size_t size = compressor.max_frame_size(0, DType::f32);
  const Buffer out(size);
  compressor.encode({nullptr, 0}, out.bytes(), {}, {});
  std::uint8_t codec = 0;
  frame::Header header;
  std::memcpy(&codec, out.data() + 2, sizeof codec);
  std::memcpy(&header.options, out.data() + 4, sizeof header.options);
  header.codec = static_cast<frame::Codec>(codec);
  return header;
}

/// Codecs of which any payload is a value.
bool any_payload_decodes(frame::Codec codec) {
  switch (codec) {
    case frame::Codec::none:
    case frame::Codec::f16:
    case frame::Codec::bf16:
    case frame::Codec::quantize:
    case frame::Codec::ternary:
    case frame::Codec::natural:
    case frame::Codec::levels: return true;
    default: return false;
  }
}

/// What clipping at t standard deviations takes away at most, expected over D: E (|y| - t s)_+^2 under the tails named
/// at inner_bound is 4 s^2 (exp(-t^2 / 2) - t sqrt(2 pi) Q(t)), and never more than all.
double clipped_energy(double t) {
  const double upper_tail = 0.5 * std::erfc(t / std::sqrt(2.0));
  return std::min(4 * (std::exp(-t * t / 2) - t * std::sqrt(2 * M_PI) * upper_tail), 1.0);
}

/// Also with a lossless stage behind it. A vector that is rotated twice by the same signs is not what the bounds are
/// of, and both would work in the same memory.
bool is_rotated(const Compressor& compressor) {
  const std::string_view first = parse_spec(split_stages(compressor.spec()).front()).name;
  return first == "rotate" || first == "thc";
}

RotateLayout choose_layout(std::size_t block, const Compressor& inner) {
  const CompressorTraits traits = inner.traits();
  require(inner.sparsifier() == nullptr && inner.low_rank() == nullptr && inner.integer_coder() == nullptr &&
              traits.block_elems != kWholeTensor,
          "rotate({}): expected a quantiser inside, such as q4", inner.spec());
  const std::size_t least = std::lcm(block, traits.block_elems);
  require(least <= kMaxSpan, "rotate: block {} and the {} elements of {} have the least common multiple {}, at most {}",
          block, traits.block_elems, inner.spec(), least, kMaxSpan);
  return {block, std::max(least, kSpanElems / least * least)};
}

}  // namespace

static_assert(CompressorImpl<RotateCompressor>);

std::size_t RotateLayout::padded(std::size_t count) const noexcept {
  const std::size_t tail = count % block;
  if (tail == 0) return count;
  return count - tail + std::max(std::bit_ceil(tail), kernels::kMinRotation);
}

/// Keys of a place in the sequence of random numbers that no element has.
kernels::SignKey sign_key(const RandomKey& key) noexcept {
  return {RandomStream(key).keys(0xffff'ffffu), static_cast<std::uint32_t>(key.first_element >> 5)};
}

RotateScratch rotate_scratch(std::size_t elems) {
  thread_local Buffer memory;
  if (memory.size() < 2 * elems * sizeof(float)) memory = Buffer(2 * elems * sizeof(float));
  auto* const y = reinterpret_cast<float*>(memory.data());
  return {y, y + elems};
}

/// A span under way: where it lies in the input, and the memory it uses.
struct RotateCompressor::Spot {
  std::size_t first;
  std::size_t count;
  std::size_t padded;
  kernels::SignKey signs;
  RotateScratch scratch;
};

RotateCompressor::RotateCompressor(const RotateParams& params, Compressor inner)
    : params_(params),
      inner_(std::move(inner)),
      layout_(choose_layout(params.block, inner_)),
      inner_header_(header_of(inner_)),
      inner_may_refuse_(!inner_.traits().fixed_size || !any_payload_decodes(inner_header_.codec)) {
  constexpr std::string_view kScales[] = {"none", "contractive", "unbiased"};
  require(!is_rotated(inner_), "rotate({}): already rotated", inner_.spec());
  spec_ = params.spec;
  if (spec_.empty())
    spec_ = fmt::format("rotate(inner={},block={},scale={},clip={})", inner_.spec(), params.block,
                        kScales[static_cast<std::size_t>(params.scale)], params.clip);
}

/// A rescaled estimate is unbiased over uniformly random rotations; over Hadamard ones it nearly is, and for some
/// vectors (such as two equal elements and zeros) it is not.
CompressorTraits RotateCompressor::traits() const noexcept {
  CompressorTraits traits;
  traits.fixed_size = inner_.traits().fixed_size;
  traits.on_device = inner_.traits().fixed_size && inner_.traits().on_device;
  traits.unbiased = inner_.traits().unbiased && params_.scale == RotateScale::none && params_.clip == 0;
  traits.block_elems = std::lcm(layout_.block, inner_.traits().block_elems);
  return traits;
}

/// Expected over D, where that is proven, else the inner compressor's for any vector. A rotated element is a sum of
/// ||x|| / sqrt(d) with random signs, so it has tails no heavier than normal ones: P(|y_i| > t s) <= 2 exp(-t^2 / 2),
/// s^2 = ||x||^2 / d.
///   linf codes of a bucket of B <= d elements: E max y^2 <= 2 s^2 (ln 2B + 1), and an error is at most half a unit.
///   One bit: by Khintchine's inequality with Szarek's constant E||y||_1 >= sqrt(d/2) ||x||; with one magnitude a block
///   the contractive error is ||x||^2 - ||y||_1^2 / d.
///   Clipped at T s: codes reach T s to each side, for any vector.
double RotateCompressor::inner_bound(std::size_t padded) const {
  const double bound = inner_.error_bound(padded);
  if (inner_header_.codec != frame::Codec::quantize) return bound;
  const QuantizeParams codes = QuantizeParams::from_options(inner_header_.options);
  const double clip = params_.clip;
  switch (shape_of(codes)) {
    case CodeShape::sign: {
      const bool one_magnitude = codes.round == Rounding::nearest && codes.bucket % layout_.block == 0 && clip == 0;
      return one_magnitude && params_.scale == RotateScale::contractive ? std::min(bound, 0.5) : bound;
    }
    case CodeShape::steps: {
      const double steps = top_code(codes);
      return clip > 0 ? std::min(bound, clip * clip / (steps * steps)) : bound;
    }
    case CodeShape::levels: break;
    default: return bound;
  }
  if (codes.norm != Norm::linf) return bound;
  const double levels = levels_of(codes);
  if (clip > 0) return std::min(bound, clip * clip / (4 * levels * levels));
  if (layout_.block % codes.bucket != 0) return bound;
  return std::min(bound, (std::log(2.0 * static_cast<double>(codes.bucket)) + 1) / (2 * levels * levels));
}

/// With an angle a between y and Q, the contractive scale errs by sin^2 a, which no scale of Q improves on, and the
/// unbiased one by tan^2 a; it is taken only where that is at most 3. A transform rounds once a level, which adds at
/// most 2^-24 of the norm each time.
double RotateCompressor::error_bound(std::size_t count) const {
  const double inner = inner_bound(layout_.padded(count));
  double bound = inner;
  if (params_.clip > 0) {
    const double clipped = clipped_energy(params_.clip);
    bound = inner_.traits().unbiased ? inner + clipped : std::pow(std::sqrt(inner) + std::sqrt(clipped), 2);
  }
  if (params_.scale == RotateScale::contractive) bound = std::min(bound, 1.0);
  if (params_.scale == RotateScale::unbiased) bound = bound < 0.75 ? bound / (1 - bound) : 3.0;
  const double norm = std::sqrt(bound) + 0x1p-19;
  return norm * norm;
}

std::uint32_t RotateCompressor::options() const noexcept {
  return static_cast<std::uint32_t>(std::countr_zero(params_.block)) | static_cast<std::uint32_t>(params_.scale) << 8;
}

std::size_t RotateCompressor::factor_bytes(std::size_t count) const noexcept {
  return params_.scale == RotateScale::none ? 0 : frame::align_up(layout_.blocks(count) * sizeof(float));
}

std::size_t RotateCompressor::max_frame_size(std::size_t count, DType) const {
  frame::check_count(count, spec_);
  const std::size_t rest = count % layout_.span;
  std::size_t bytes = frame::kHeaderBytes + kSignBytes + factor_bytes(count);
  bytes += count / layout_.span * inner_.max_frame_size(layout_.span, DType::f32);
  if (rest != 0) bytes += inner_.max_frame_size(layout_.padded(rest), DType::f32);
  return bytes;
}

void RotateCompressor::rotate_span(ConstTensor x, const Spot& spot, float* y) const {
  const RotateKernels& kernels = isa::kernels<RotateKernels>();
  for (std::size_t i = 0; i < spot.padded; i += layout_.block) {
    const std::size_t size = layout_.block_size(spot.padded, i);
    const std::size_t count = std::min(size, spot.count - i);
    const std::size_t first = spot.first + i;
    const std::size_t ahead = first + count + kAheadElems <= x.count ? kAheadElems : 0;
    if (!kernels.forward({x.slice(first, count), size, spot.signs.from(i), y + i, ahead}))
      refuse_non_finite(x, {first, count, spec_, "is above 2^112, whose sums may leave f32"});
  }
}

/// What the inner compressor is to code: the rotated values, or clipped ones where the decoded will be.
const float* RotateCompressor::clip_span(const RotateScratch& scratch, std::size_t padded) const {
  if (params_.clip == 0) return scratch.y;
  for (std::size_t i = 0; i < padded; i += layout_.block) {
    const std::size_t size = layout_.block_size(padded, i);
    const double squares = isa::kernels<ElementKernels>().sum_squares(scratch.y + i, size);
    const float limit = rotation::clip_limit(params_.clip, squares, size);
    isa::kernels<RotateKernels>().clamp(scratch.y + i, size, limit, scratch.q + i);
  }
  return scratch.q;
}

/// Factors and residuals of a span whose decoded values, still rotated, are in scratch.q.
void RotateCompressor::finish_span(ConstTensor x, const Spot& spot, std::byte* factors, float* residual) const {
  const RotateKernels& kernels = isa::kernels<RotateKernels>();
  for (std::size_t i = 0; i < spot.padded; i += layout_.block) {
    const std::size_t size = layout_.block_size(spot.padded, i);
    const std::size_t first = spot.first + i;
    float* const q = spot.scratch.q + i;
    float factor = rotation_factor(size);
    if (params_.scale != RotateScale::none) {
      const kernels::Products products = isa::kernels<RotateKernels>().products(spot.scratch.y + i, q, size);
      const float scale = rotation::block_factor(products, params_.scale == RotateScale::unbiased);
      std::memcpy(factors + first / layout_.block * sizeof scale, &scale, sizeof scale);
      factor *= scale;
    }
    if (residual == nullptr) continue;
    const std::size_t count = std::min(size, spot.count - i);
    kernels.inverse({q, size, spot.signs.from(i), factor, true, count == size ? residual + first : nullptr});
    isa::kernels<ElementKernels>().scale_add({x.slice(first, count), 1.0f, q, residual + first});
  }
}

std::size_t RotateCompressor::encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key,
                                     StreamRef stream) const {
  if (x.space == Space::device) return encode_on_device(x, out, residual, key, stream);
  frame::check_host(stream, spec_);
  const std::size_t most = max_frame_size(x.count, x.dtype);
  frame::check_encode(x, out, residual, most, spec_);
  const kernels::SignKey signs = sign_key(key);
  const std::uint32_t sign_words[4] = {signs.keys.k0, signs.keys.k1, signs.word, 0};
  std::memcpy(out.data + frame::kHeaderBytes, sign_words, kSignBytes);
  std::byte* const factors = out.data + frame::kHeaderBytes + kSignBytes;
  std::memset(factors, 0, factor_bytes(x.count));
  std::size_t end = frame::kHeaderBytes + kSignBytes + factor_bytes(x.count);
  const RotateScratch scratch = rotate_scratch(layout_.span);
  for (std::size_t first = 0; first < x.count; first += layout_.span) {
    const std::size_t count = std::min(layout_.span, x.count - first);
    const Spot spot{first, count, layout_.padded(count), signs.from(first), scratch};
    rotate_span(x, spot, scratch.y);
    const float* const values = clip_span(scratch, spot.padded);
    const Bytes frame = out.slice(end, out.size - end);
    const RandomKey inner_key{key.seed, key.step, key.param, key.first_element + first};
    const std::size_t frame_bytes = inner_.encode({values, spot.padded}, frame, {}, inner_key);
    end += frame_bytes;
    if (residual.data == nullptr && params_.scale == RotateScale::none) continue;
    inner_.decode(frame.slice(0, frame_bytes), {scratch.q, spot.padded}, Write::assign);
    finish_span(x, spot, factors, static_cast<float*>(residual.data));
  }
  frame::write_header(out.data, {params_.codec, x.dtype, options(), static_cast<std::uint32_t>(x.count),
                                 static_cast<std::uint32_t>(end / frame::kAlign)});
  return end;
}

/// Before output is touched. `frames` is what follows the factors, to the end of the frame.
void RotateCompressor::check_inner_frames(ConstBytes frames, std::size_t count) const {
  for (std::size_t first = 0; first < count; first += layout_.span) {
    const std::size_t padded = layout_.padded(std::min(layout_.span, count - first));
    std::size_t bytes = 0;
    if (inner_may_refuse_) {
      bytes = inner_.decode(frames, {rotate_scratch(layout_.span).q, padded}, Write::assign);
    } else {
      const frame::Header header =
          frame::read_header(frames, {inner_header_.codec, inner_header_.options, padded, spec_});
      bytes = inner_.max_frame_size(padded, DType::f32);
      if (header.dtype != DType::f32) fail(Errc::bad_frame, "{}: an inner frame holds {}", spec_, name(header.dtype));
      frame::check_size(frames, header, bytes, spec_);
    }
    frames = frames.slice(bytes, frames.size - bytes);
  }
  if (frames.size != 0) fail(Errc::bad_frame, "{}: {} bytes follow the last inner frame", spec_, frames.size);
}

std::size_t RotateCompressor::decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
  if (y.space == Space::device) return decode_on_device(in, y, write, stream);
  frame::check_host(stream, spec_);
  frame::check_decode(in, y, spec_);
  const frame::Header header = frame::read_header(in, {params_.codec, options(), y.count, spec_});
  const std::size_t most = max_frame_size(y.count, header.dtype);
  const std::size_t frame_bytes = std::size_t{header.blocks} * frame::kAlign;
  const std::size_t before = frame::kHeaderBytes + kSignBytes + factor_bytes(y.count);
  if (inner_.traits().fixed_size || frame_bytes > most || frame_bytes < before)
    frame::check_size(in, header, most, spec_);
  else
    frame::check_size(in, header, frame_bytes, spec_);
  ConstBytes frames = in.slice(before, frame_bytes - before);
  check_inner_frames(frames, y.count);

  std::uint32_t sign_words[4];
  std::memcpy(sign_words, in.data + frame::kHeaderBytes, kSignBytes);
  const kernels::SignKey signs{{sign_words[0], sign_words[1]}, sign_words[2]};
  float* const q = rotate_scratch(layout_.span).q;
  for (std::size_t first = 0; first < y.count; first += layout_.span) {
    const std::size_t count = std::min(layout_.span, y.count - first);
    const std::size_t padded = layout_.padded(count);
    const std::size_t bytes = inner_.decode(frames, {q, padded}, Write::assign);
    frames = frames.slice(bytes, frames.size - bytes);
    for (std::size_t i = 0; i < padded; i += layout_.block) {
      const std::size_t size = layout_.block_size(padded, i);
      float factor = rotation_factor(size);
      if (params_.scale != RotateScale::none) {
        float scale = 0;
        std::memcpy(&scale, in.data + frame::kHeaderBytes + kSignBytes + (first + i) / layout_.block * sizeof scale,
                    sizeof scale);
        factor *= scale;
      }
      const Tensor target = y.slice(first + i, std::min(size, count - i));
      const bool whole = target.count == size && y.dtype == DType::f32;
      isa::kernels<RotateKernels>().inverse({q + i, size, signs.from(first + i), factor, false,
                                             whole ? static_cast<const float*>(target.data) : nullptr});
      isa::kernels<ElementKernels>().cast_decode(
          {reinterpret_cast<const std::byte*>(q + i), DType::f32, target, write});
    }
  }
  return frame_bytes;
}

Compressor make_rotate(const Spec& spec) {
  RotateParams params;
  OptionReader options(spec, {"inner"});
  const std::string_view inner = options.spec("inner", "q4");
  params.block = options.number("block", params.block, kernels::kMinRotation, kernels::kMaxRotation, 32);
  params.scale = static_cast<RotateScale>(options.choice("scale", 0, {"none", "contractive", "unbiased"}));
  params.clip = static_cast<float>(options.real("clip", 0, 0, 64));
  options.finish();
  require(std::has_single_bit(params.block), "compressor \"{}\": option block is {}; accepted: powers of two in {}..{}",
          spec.text, params.block, kernels::kMinRotation, kernels::kMaxRotation);
  return RotateCompressor(params, make_compressor(inner));
}

}  // namespace gradwire
