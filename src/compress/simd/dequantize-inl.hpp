// quantize: codes to values. Included once per instruction set.
#if defined(GRADWIRE_SIMD_DEQUANTIZE_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_DEQUANTIZE_INL_
#undef GRADWIRE_SIMD_DEQUANTIZE_INL_
#else
#define GRADWIRE_SIMD_DEQUANTIZE_INL_
#endif

#include "compress/simd/quantize-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

struct ValueRows {
  const std::uint8_t* codes;
  std::size_t rows;
  float* y;
};

template <CodeShape shape, Write write>
void value_rows(const Coder& coder, const ValueRows& job) {
  const hn::Rebind<std::uint8_t, DF> du8;
  const Coder c = coder;
  for (std::size_t i = 0; i < job.rows * kRow; i += hn::Lanes(DF())) {
    VF v = c.value<shape>(hn::PromoteTo(DI(), hn::LoadU(du8, job.codes + i)));
    if constexpr (write == Write::add) v = hn::Add(hn::LoadU(DF(), job.y + i), v);
    hn::StoreU(v, DF(), job.y + i);
  }
}

using ValueRowsFunction = void (*)(const Coder&, const ValueRows&);

template <CodeShape shape>
ValueRowsFunction choose_value_rows(Write write) {
  return write == Write::add ? value_rows<shape, Write::add> : value_rows<shape, Write::assign>;
}

inline ValueRowsFunction choose_value_rows(const QuantizeParams& params, Write write) {
  switch (shape_of(params)) {
    case CodeShape::sign: return choose_value_rows<CodeShape::sign>(write);
    case CodeShape::steps: return choose_value_rows<CodeShape::steps>(write);
    default: return choose_value_rows<CodeShape::levels>(write);
  }
}

/// One decode: stripes of planes to codes, buckets of codes to values.
class QuantizeDecoder {
 public:
  explicit QuantizeDecoder(const kernels::QuantizeDecode& job)
      : job_(job),
        layout_{job.params, job.y.count},
        value_rows_(choose_value_rows(job.params, job.y.dtype == DType::f32 ? job.write : Write::assign)),
        payload_(reinterpret_cast<const std::uint8_t*>(job.payload)) {}

  void run() {
    const std::size_t stripe = stripe_elems(job_.params.bucket);
    for (std::size_t first = 0; first < job_.y.count; first += stripe) {
      const std::size_t end = std::min(first + stripe, job_.y.count);
      const std::uint8_t* codes = codes_;
      if (job_.params.bits == 8) {
        codes = payload_ + layout_.plane_offset(8) + first;
      } else {
        unpack_planes({layout_, first / kRow, (end - first + kRow - 1) / kRow}, payload_, codes_);
      }
      for (std::size_t i = first; i < end; i += job_.params.bucket)
        decode_bucket(i, std::min<std::size_t>(job_.params.bucket, end - i), codes + (i - first));
    }
  }

 private:
  void decode_bucket(std::size_t first, std::size_t n, const std::uint8_t* codes) {
    const Coder coder(job_.params, read_scale(first / job_.params.bucket));
    if (job_.y.dtype == DType::f32) {
      float* const y = static_cast<float*>(job_.y.data) + first;
      const std::size_t rest = n % kRow;
      value_rows_(coder, {codes, n / kRow, y});
      if (rest == 0) return;
      PaddedRow<float> tail(y + (n - rest), rest);
      value_rows_(coder, {codes + (n - rest), 1, tail.data});
      tail.copy_to(y + (n - rest), rest);
    } else {
      value_rows_(coder, {codes, (n + kRow - 1) / kRow, wide_});
      cast_decode({reinterpret_cast<const std::byte*>(wide_), DType::f32, job_.y.slice(first, n), job_.write});
    }
  }

  [[nodiscard]] BucketScale read_scale(std::size_t bucket) const {
    float parts[2] = {};
    const std::size_t bytes = layout_.scale_floats() * sizeof(float);
    std::memcpy(parts, payload_ + bucket * bytes, bytes);
    return {parts[0], 0, parts[1]};
  }

  const kernels::QuantizeDecode& job_;
  const QuantizeLayout layout_;
  const ValueRowsFunction value_rows_;
  const std::uint8_t* const payload_;
  HWY_ALIGN std::uint8_t codes_[kMaxStripe];
  HWY_ALIGN float wide_[QuantizeParams::kMaxBucket];
};

inline void quantize_decode(const kernels::QuantizeDecode& job) { QuantizeDecoder(job).run(); }

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
