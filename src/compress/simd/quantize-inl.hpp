// quantize: whole frames' payloads. Included once per instruction set.
#if defined(GRADWIRE_SIMD_QUANTIZE_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_QUANTIZE_INL_
#undef GRADWIRE_SIMD_QUANTIZE_INL_
#else
#define GRADWIRE_SIMD_QUANTIZE_INL_
#endif

#include "compress/kernels.hpp"
#include "compress/simd/code_rows-inl.hpp"
#include "compress/simd/elementwise-inl.hpp"
#include "compress/simd/noise-inl.hpp"
#include "compress/simd/norms-inl.hpp"
#include "compress/simd/planes-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

/// How far ahead memory is asked for, measured with data out of cache. Encoding wants its next bucket in the
/// first-level cache, and at least some lines; decoding does best when lines far ahead are on their way to the second
/// level.
inline constexpr std::size_t kEncodeAheadElems = 2048 / sizeof(float);
inline constexpr std::size_t kDecodeAheadElems = 4096 / sizeof(float);

/// One encode: each bucket to codes while it is in the first-level cache, stripes of codes to planes.
class QuantizeEncoder {
 public:
  explicit QuantizeEncoder(const kernels::QuantizeEncode& job)
      : job_(job),
        layout_{job.params, job.x.count},
        random_(job.key),
        ahead_((kEncodeAheadElems + job.params.bucket - 1) / job.params.bucket * job.params.bucket),
        encode_rows_(choose_encode_rows(job.params, job.residual != nullptr)),
        payload_(reinterpret_cast<std::uint8_t*>(job.payload)) {}

  std::size_t run() {
    if (job_.x.count == 0) return 0;
    const std::size_t bucket = job_.params.bucket;
    const std::size_t stripe = stripe_elems(bucket);
    const bool plain = job_.params.bits == 8;
    for (std::size_t first = 0; first < job_.x.count; first += stripe) {
      const std::size_t end = std::min(first + stripe, job_.x.count);
      const CodeRows<std::uint8_t> codes(plain ? payload_ + layout_.plane_offset(8) + first : codes_, 0, plain);
      const std::size_t rows = (end - first + kRow - 1) / kRow;
      if (!plain && rows % kTileRows != 0) std::memset(codes_ + rows / kTileRows * kTile, 0, kTile);
      for (std::size_t i = first; i < end; i += bucket)
        if (!encode_bucket(i, std::min(bucket, end - i), codes.from((i - first) / kRow))) return i;
      if (!plain) pack_planes({layout_, first / kRow, rows}, codes_, payload_);
    }
    const std::size_t scale_bytes = layout_.buckets() * layout_.scale_floats() * sizeof(float);
    std::memset(payload_ + scale_bytes, 0, layout_.scale_bytes() - scale_bytes);
    return job_.x.count;
  }

 private:
  bool encode_bucket(std::size_t first, std::size_t n, CodeRows<std::uint8_t> codes) {
    const float* const x = values(first, n);
    BucketScale scale;
    if (!find_scale(job_.params, x, n, scale)) return false;
    write_scale(first / job_.params.bucket, scale);
    const std::uint16_t* noise = nullptr;
    if (job_.params.round == Round::stochastic) noise = noise_.fill(random_, job_.key.first_element + first, n);
    float* const residual = job_.residual == nullptr ? nullptr : job_.residual + first;

    const bool in_place = x != wide_ && first + n + ahead_ <= job_.x.count;
    encode_rows_({job_.params, scale, x, residual, noise, codes, in_place ? ahead_ : 0}, n / kRow);
    const std::size_t rest = n % kRow;
    if (rest == 0) return true;
    const std::size_t whole = n - rest;
    const PaddedRow<float> tail(x + whole, rest);
    PaddedRow<float> tail_residual;
    const CodeRows<std::uint8_t> tail_codes = codes.from(whole / kRow);
    encode_rows_(
        {job_.params, scale, tail.data, tail_residual.data, noise == nullptr ? noise : noise + whole, tail_codes, 0},
        1);
    std::memset(tail_codes.row(0) + rest, 0, kRow - rest);
    if (residual != nullptr) tail_residual.copy_to(residual + whole, rest);
    return true;
  }

  /// The bucket's elements as f32.
  const float* values(std::size_t first, std::size_t n) {
    if (job_.x.dtype == DType::f32) return static_cast<const float*>(job_.x.data) + first;
    const ConstTensor bucket = job_.x.slice(first, n);
    cast_decode({static_cast<const std::byte*>(bucket.data), bucket.dtype, {wide_, n}, Write::assign});
    return wide_;
  }

  void write_scale(std::size_t bucket, const BucketScale& scale) {
    const float parts[2] = {scale.unit, scale.min};
    const std::size_t bytes = layout_.scale_floats() * sizeof(float);
    std::memcpy(payload_ + bucket * bytes, parts, bytes);
  }

  const kernels::QuantizeEncode& job_;
  const QuantizeLayout layout_;
  const RandomStream random_;
  const std::size_t ahead_;
  const EncodeRowsFunction encode_rows_;
  std::uint8_t* const payload_;
  HWY_ALIGN std::uint8_t codes_[kMaxStripe];
  HWY_ALIGN float wide_[QuantizeParams::kMaxBucket];
  Noise noise_;
};

/// One decode: stripes of planes to codes, buckets of codes to values.
class QuantizeDecoder {
 public:
  explicit QuantizeDecoder(const kernels::QuantizeDecode& job)
      : job_(job),
        layout_{job.params, job.y.count},
        decode_rows_(choose_decode_rows(job.params, job.y.dtype == DType::f32 ? job.write : Write::assign)),
        payload_(reinterpret_cast<const std::uint8_t*>(job.payload)) {}

  void run() {
    const std::size_t bucket = job_.params.bucket;
    const std::size_t stripe = stripe_elems(bucket);
    const bool plain = job_.params.bits == 8;
    for (std::size_t first = 0; first < job_.y.count; first += stripe) {
      const std::size_t end = std::min(first + stripe, job_.y.count);
      if (!plain) unpack_planes({layout_, first / kRow, (end - first + kRow - 1) / kRow}, payload_, codes_);
      const CodeRows<const std::uint8_t> codes(plain ? payload_ + layout_.plane_offset(8) + first : codes_, 0, plain);
      for (std::size_t i = first; i < end; i += bucket)
        decode_bucket(i, std::min(bucket, end - i), codes.from((i - first) / kRow));
    }
  }

 private:
  void decode_bucket(std::size_t first, std::size_t n, CodeRows<const std::uint8_t> codes) {
    const BucketScale scale = read_scale(first / job_.params.bucket);
    if (job_.y.dtype != DType::f32) {
      decode_rows_({job_.params, scale, codes, wide_, 0}, (n + kRow - 1) / kRow);
      cast_decode({reinterpret_cast<const std::byte*>(wide_), DType::f32, job_.y.slice(first, n), job_.write});
      return;
    }
    float* const y = static_cast<float*>(job_.y.data) + first;
    const std::size_t ahead = first + n + kDecodeAheadElems <= job_.y.count ? kDecodeAheadElems : 0;
    decode_rows_({job_.params, scale, codes, y, ahead}, n / kRow);
    const std::size_t rest = n % kRow;
    if (rest == 0) return;
    PaddedRow<float> tail(y + (n - rest), rest);
    decode_rows_({job_.params, scale, codes.from(n / kRow), tail.data, 0}, 1);
    tail.copy_to(y + (n - rest), rest);
  }

  [[nodiscard]] BucketScale read_scale(std::size_t bucket) const {
    float parts[2] = {};
    const std::size_t bytes = layout_.scale_floats() * sizeof(float);
    std::memcpy(parts, payload_ + bucket * bytes, bytes);
    return {parts[0], 0, parts[1]};
  }

  const kernels::QuantizeDecode& job_;
  const QuantizeLayout layout_;
  const DecodeRowsFunction decode_rows_;
  const std::uint8_t* const payload_;
  HWY_ALIGN std::uint8_t codes_[kMaxStripe];
  HWY_ALIGN float wide_[QuantizeParams::kMaxBucket];
};

inline std::size_t quantize_encode(const kernels::QuantizeEncode& job) { return QuantizeEncoder(job).run(); }

inline void quantize_decode(const kernels::QuantizeDecode& job) { QuantizeDecoder(job).run(); }

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
