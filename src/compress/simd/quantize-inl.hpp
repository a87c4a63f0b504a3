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
#include "compress/simd/signs-inl.hpp"
#include "compress/simd/trits-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

/// How far ahead memory is asked for, measured with data out of cache. Encoding wants its next bucket in the
/// first-level cache, and at least some lines; decoding does best when lines far ahead are on their way to the second
/// level.
inline constexpr std::size_t kEncodeAheadElems = 2048 / sizeof(float);
inline constexpr std::size_t kDecodeAheadElems = 4096 / sizeof(float);

/// Codes of a stripe, one a byte, on their way between rows of values and the payload.
class CodeStripe {
 public:
  explicit CodeStripe(const QuantizeLayout& layout)
      : layout_(layout),
        trits_(layout.params.packing == Packing::trits),
        in_payload_(layout.params.bits == 8),
        elems_(trits_ ? trit_stripe_elems(layout.params.bucket) : stripe_elems(layout.params.bucket)) {}

  [[nodiscard]] std::size_t elems() const { return elems_; }

  /// Where codes of a stripe from element `first` on are to be written, and read.
  template <class Byte>
  [[nodiscard]] CodeRows<Byte> rows(Byte* payload, std::size_t first) {
    return {in_payload_ ? payload + layout_.plane_offset(8) + first : codes_, 0, trits_ || in_payload_};
  }

  /// To be called before the last rows of a stripe are written: codes behind them are zero.
  void clear_behind(std::size_t rows) {
    if (in_payload_) return;
    if (trits_) {
      std::memset(codes_ + rows * kRow, 0, (kTritRows - 1) * kRow);
    } else if (rows % kTileRows != 0) {
      std::memset(codes_ + rows / kTileRows * kTile, 0, kTile);
    }
  }

  void pack(std::size_t first, std::size_t rows, std::uint8_t* payload) const {
    if (trits_) return pack_trits(codes_, rows, payload + layout_.trit_offset() + first / kTritRows);
    if (!in_payload_) pack_planes({layout_, first / kRow, rows}, codes_, payload);
  }

  void unpack(std::size_t first, std::size_t rows, const std::uint8_t* payload) {
    if (trits_) return unpack_trits(payload + layout_.trit_offset() + first / kTritRows, rows, codes_);
    if (!in_payload_) unpack_planes({layout_, first / kRow, rows}, payload, codes_);
  }

 private:
  const QuantizeLayout& layout_;
  const bool trits_;
  const bool in_payload_;
  const std::size_t elems_;
  HWY_ALIGN std::uint8_t codes_[std::max(kMaxStripe, kMaxTritStripe) + kTile];
};

/// One encode: each bucket to codes while it is in the first-level cache, stripes of codes to planes.
class QuantizeEncoder {
 public:
  explicit QuantizeEncoder(const kernels::QuantizeEncode& job)
      : job_(job),
        layout_{job.params, job.x.count},
        random_(job.key),
        stripe_(layout_),
        ahead_((kEncodeAheadElems + job.params.bucket - 1) / job.params.bucket * job.params.bucket),
        encode_rows_(choose_encode_rows(job.params, job.residual != nullptr)),
        payload_(reinterpret_cast<std::uint8_t*>(job.payload)) {}

  std::size_t run() {
    if (layout_.payload_bytes() == 0) return 0;
    if (job_.codebook != nullptr) std::memcpy(codebook_, job_.codebook, layout_.scale_offset());
    std::memcpy(payload_, codebook_, layout_.scale_offset());
    const std::size_t bucket = job_.params.bucket;
    std::size_t first = 0;
    if (job_.params.norm == Norm::mean && bucket % kTile == 0) {
      for (; first + bucket <= job_.x.count; first += bucket)
        if (!encode_sign_bucket(first)) return first;
    }
    for (; first < job_.x.count; first += stripe_.elems()) {
      const std::size_t end = std::min(first + stripe_.elems(), job_.x.count);
      const CodeRows<std::uint8_t> codes = stripe_.rows(payload_, first);
      const std::size_t rows = (end - first + kRow - 1) / kRow;
      stripe_.clear_behind(rows);
      for (std::size_t i = first; i < end; i += bucket)
        if (!encode_bucket(i, std::min(bucket, end - i), codes.from((i - first) / kRow))) return i;
      stripe_.pack(first, rows, payload_);
    }
    const std::size_t scales_end = layout_.buckets() * layout_.scale_floats() * sizeof(float);
    std::memset(payload_ + layout_.scale_offset() + scales_end, 0, layout_.scale_bytes() - scales_end);
    return job_.x.count;
  }

 private:
  bool encode_bucket(std::size_t first, std::size_t n, CodeRows<std::uint8_t> codes) {
    const float* const x = values(first, n);
    BucketScale scale;
    if (!find_scale(job_.params, x, n, scale)) return false;
    write_scale(first / job_.params.bucket, scale);
    const std::uint16_t* noise = nullptr;
    if (job_.params.round == Rounding::stochastic) noise = noise_.fill(random_, job_.key.first_element + first, n);
    float* const residual = job_.residual == nullptr ? nullptr : job_.residual + first;

    const CodeScheme scheme{job_.params, codebook_};
    encode_rows_({scheme, scale, x, residual, noise, codes, ahead(x, first + n)}, n / kRow);
    const std::size_t rest = n % kRow;
    if (rest == 0) return true;
    const std::size_t whole = n - rest;
    const PaddedRow<float> tail(x + whole, rest);
    PaddedRow<float> tail_residual;
    const CodeRows<std::uint8_t> tail_codes = codes.from(whole / kRow);
    encode_rows_(
        {scheme, scale, tail.data, tail_residual.data, noise == nullptr ? noise : noise + whole, tail_codes, 0}, 1);
    std::memset(tail_codes.row(0) + rest, 0, kRow - rest);
    if (residual != nullptr) tail_residual.copy_to(residual + whole, rest);
    return true;
  }

  /// A whole bucket of `sign`, of whole tiles.
  bool encode_sign_bucket(std::size_t first) {
    const std::size_t n = job_.params.bucket;
    const float* const x = values(first, n);
    PaddedRow<float> sums;
    encode_signs(x, n / kTile, payload_ + layout_.plane_offset(1) + first / 8, sums.data);
    BucketScale scale;
    if (!scale_from_norm(job_.params, mean_from_partial_sums(sums.data, n), 0, scale)) return false;
    write_scale(first / n, scale);
    if (job_.residual != nullptr) sign_residual(x, n, scale.unit, job_.residual + first, ahead(x, first + n));
    return true;
  }

  /// How far in front of a bucket that ends at `end` to prefetch: not behind the input, nor in a buffer of our own.
  [[nodiscard]] std::size_t ahead(const float* x, std::size_t end) const {
    return x != wide_ && end + ahead_ <= job_.x.count ? ahead_ : 0;
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
    std::memcpy(payload_ + layout_.scale_offset() + bucket * bytes, parts, bytes);
  }

  const kernels::QuantizeEncode& job_;
  const QuantizeLayout layout_;
  const RandomStream random_;
  CodeStripe stripe_;
  const std::size_t ahead_;
  const EncodeRowsFunction encode_rows_;
  std::uint8_t* const payload_;
  HWY_ALIGN float codebook_[16] = {};
  HWY_ALIGN float wide_[QuantizeParams::kMaxBucket];
  Noise noise_;
};

/// One decode: stripes of planes to codes, buckets of codes to values.
class QuantizeDecoder {
 public:
  explicit QuantizeDecoder(const kernels::QuantizeDecode& job)
      : job_(job),
        layout_{job.params, job.y.count},
        stripe_(layout_),
        decode_rows_(choose_decode_rows(job.params, job.y.dtype == DType::f32 ? job.write : Write::assign)),
        payload_(reinterpret_cast<const std::uint8_t*>(job.payload)) {}

  void run() {
    if (job_.y.count == 0) return;
    std::memcpy(codebook_, payload_, layout_.scale_offset());
    const std::size_t bucket = job_.params.bucket;
    std::size_t first = 0;
    if (shape_of(job_.params) == CodeShape::sign && bucket % kTile == 0)
      for (; first + bucket <= job_.y.count; first += bucket) decode_sign_bucket(first);
    for (; first < job_.y.count; first += stripe_.elems()) {
      const std::size_t end = std::min(first + stripe_.elems(), job_.y.count);
      stripe_.unpack(first, (end - first + kRow - 1) / kRow, payload_);
      const CodeRows<const std::uint8_t> codes = stripe_.rows(payload_, first);
      for (std::size_t i = first; i < end; i += bucket)
        decode_bucket(i, std::min(bucket, end - i), codes.from((i - first) / kRow));
    }
  }

 private:
  void decode_bucket(std::size_t first, std::size_t n, CodeRows<const std::uint8_t> codes) {
    const CodeScheme scheme{job_.params, codebook_};
    const BucketScale scale = read_scale(first / job_.params.bucket);
    if (job_.y.dtype != DType::f32) {
      decode_rows_({scheme, scale, codes, wide_, 0}, (n + kRow - 1) / kRow);
      return put_wide(first, n);
    }
    float* const y = static_cast<float*>(job_.y.data) + first;
    decode_rows_({scheme, scale, codes, y, ahead(first + n)}, n / kRow);
    const std::size_t rest = n % kRow;
    if (rest == 0) return;
    PaddedRow<float> tail(y + (n - rest), rest);
    decode_rows_({scheme, scale, codes.from(n / kRow), tail.data, 0}, 1);
    tail.copy_to(y + (n - rest), rest);
  }

  /// A whole bucket of signs, of whole tiles.
  void decode_sign_bucket(std::size_t first) {
    const std::size_t n = job_.params.bucket;
    const std::uint8_t* const plane = payload_ + layout_.plane_offset(1) + first / 8;
    const float unit = read_scale(first / n).unit;
    if (job_.y.dtype != DType::f32) {
      decode_signs<Write::assign>(plane, n / kTile, unit, wide_, 0);
      return put_wide(first, n);
    }
    float* const y = static_cast<float*>(job_.y.data) + first;
    if (job_.write == Write::add) return decode_signs<Write::add>(plane, n / kTile, unit, y, ahead(first + n));
    decode_signs<Write::assign>(plane, n / kTile, unit, y, ahead(first + n));
  }

  /// What was decoded to f32, to the output's dtype.
  void put_wide(std::size_t first, std::size_t n) {
    cast_decode({reinterpret_cast<const std::byte*>(wide_), DType::f32, job_.y.slice(first, n), job_.write});
  }

  [[nodiscard]] std::size_t ahead(std::size_t end) const {
    return end + kDecodeAheadElems <= job_.y.count ? kDecodeAheadElems : 0;
  }

  [[nodiscard]] BucketScale read_scale(std::size_t bucket) const {
    float parts[2] = {};
    const std::size_t bytes = layout_.scale_floats() * sizeof(float);
    std::memcpy(parts, payload_ + layout_.scale_offset() + bucket * bytes, bytes);
    return {parts[0], 0, parts[1]};
  }

  const kernels::QuantizeDecode& job_;
  const QuantizeLayout layout_;
  CodeStripe stripe_;
  const DecodeRowsFunction decode_rows_;
  const std::uint8_t* const payload_;
  HWY_ALIGN float codebook_[16] = {};
  HWY_ALIGN float wide_[QuantizeParams::kMaxBucket];
};

inline std::size_t quantize_encode(const kernels::QuantizeEncode& job) { return QuantizeEncoder(job).run(); }

inline void quantize_decode(const kernels::QuantizeDecode& job) { QuantizeDecoder(job).run(); }

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
