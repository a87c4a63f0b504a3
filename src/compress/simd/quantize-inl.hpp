// quantize: values to codes. Included once per instruction set.
#if defined(GRADWIRE_SIMD_QUANTIZE_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_QUANTIZE_INL_
#undef GRADWIRE_SIMD_QUANTIZE_INL_
#else
#define GRADWIRE_SIMD_QUANTIZE_INL_
#endif

#include <algorithm>

#include "compress/kernels.hpp"
#include "compress/simd/elementwise-inl.hpp"
#include "compress/simd/noise-inl.hpp"
#include "compress/simd/planes-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

HWY_INLINE VU max_magnitude(VU most, const float* x) {
  for (std::size_t j = 0; j < kRow; j += hn::Lanes(DF())) most = hn::Max(most, magnitude_bits(hn::LoadU(DF(), x + j)));
  return most;
}

/// max |x|; Inf or NaN when one is among x.
inline float linf_norm(const float* x, std::size_t n) {
  VU a = hn::Zero(DU());
  VU b = hn::Zero(DU());
  std::size_t i = 0;
  for (; i + 2 * kRow <= n; i += 2 * kRow) {
    a = max_magnitude(a, x + i);
    b = max_magnitude(b, x + i + kRow);
  }
  if (i + kRow <= n) a = max_magnitude(a, x + i);
  if (n % kRow != 0) b = max_magnitude(b, PaddedRow<float>(x + n / kRow * kRow, n % kRow).data);
  return hn::GetLane(hn::BitCast(DF(), hn::MaxOfLanes(DU(), hn::Max(a, b))));
}

/// Adds the squares of `rows` rows to 16 partial sums, row after row.
HWY_INLINE void add_row_squares(const float* x, std::size_t rows, float* sums) {
  for (std::size_t j = 0; j < kRow; j += hn::Lanes(DF())) {
    VF sum = hn::Load(DF(), sums + j);
    for (std::size_t row = 0; row < rows; ++row) {
      const VF v = hn::LoadU(DF(), x + kRow * row + j);
      sum = hn::Add(sum, hn::Mul(v, v));
    }
    hn::Store(sum, DF(), sums + j);
  }
}

inline float l2_norm(const float* x, std::size_t n) {
  PaddedRow<float> sums;
  add_row_squares(x, n / kRow, sums.data);
  if (n % kRow != 0) add_row_squares(PaddedRow<float>(x + n / kRow * kRow, n % kRow).data, 1, sums.data);
  return norm_from_partial_sums(sums.data);
}

struct Extent {
  float min;
  float range;  ///< max - min; NaN when an element is not finite
};

inline Extent extent_of(const float* x, std::size_t n) {
  // Two views on each element: NaN would get lost in min and max.
  VF min = hn::Set(DF(), 0x1.fffffep127f);
  VF max = hn::Set(DF(), -0x1.fffffep127f);
  VU most = hn::Zero(DU());
  const auto visit = [&](const float* row) HWY_ATTR {
    for (std::size_t j = 0; j < kRow; j += hn::Lanes(DF())) {
      const VF v = hn::LoadU(DF(), row + j);
      min = hn::Min(min, v);
      max = hn::Max(max, v);
      most = hn::Max(most, magnitude_bits(v));
    }
  };
  for (std::size_t i = 0; i + kRow <= n; i += kRow) visit(x + i);
  if (n % kRow != 0) {
    PaddedRow<float> tail(x + n / kRow * kRow, n % kRow);
    std::fill(tail.data + n % kRow, tail.data + kRow, tail.data[0]);
    visit(tail.data);
  }
  const float least = hn::GetLane(hn::MinOfLanes(DF(), min));
  if (!is_finite(most)) return {least, hwy::LowestValue<float>() * -2.0f};
  return {least, hn::GetLane(hn::MaxOfLanes(DF(), max)) - least};
}

HWY_INLINE bool find_scale(const QuantizeParams& params, const float* x, std::size_t n, BucketScale& scale) {
  if (params.norm == Norm::minmax) {
    const Extent extent = extent_of(x, n);
    return scale_from_norm(params, extent.range, extent.min, scale);
  }
  return scale_from_norm(params, params.norm == Norm::linf ? linf_norm(x, n) : l2_norm(x, n), 0, scale);
}

/// Whole rows of one bucket on their way to codes.
struct CodeRows {
  const float* x;
  std::size_t rows;
  std::uint8_t* codes;
  float* residual;
  const std::uint16_t* noise;  ///< used when rounding stochastically
};

/// What the code of an element is computed from, in vectors.
struct Coder {
  VF unit, inv, min, levels_f32;
  VI levels, top, rounder_bits;

  Coder(const QuantizeParams& params, const BucketScale& scale)
      : unit(hn::Set(DF(), scale.unit)),
        inv(hn::Set(DF(), scale.inv)),
        min(hn::Set(DF(), scale.min)),
        levels_f32(hn::Set(DF(), static_cast<float>(levels_of(params)))),
        levels(hn::Set(DI(), shape_of(params) == CodeShape::levels ? levels_of(params) : 0)),
        top(hn::Set(DI(), top_code(params))),
        rounder_bits(hn::Sub(hn::BitCast(DI(), hn::Set(DF(), kRounder)), levels)) {}

  /// rint(v) + levels for |v| < 2^22: adding the rounder leaves the rounded integer in the lowest bits of the sum.
  [[nodiscard]] HWY_INLINE VI round(VF v) const {
    return hn::Sub(hn::BitCast(DI(), hn::Add(v, hn::Set(DF(), kRounder))), rounder_bits);
  }

  template <CodeShape shape, Round rounding>
  [[nodiscard]] HWY_INLINE VI code(VF x, const std::uint16_t* noise) const {
    VI raw;
    if constexpr (rounding == Round::nearest) {
      if constexpr (shape == CodeShape::levels) raw = round(hn::Mul(x, inv));
      if constexpr (shape == CodeShape::steps) raw = round(hn::Mul(hn::Sub(x, min), inv));
      if constexpr (shape == CodeShape::sign) {
        const auto is_top = hn::RebindMask(DI(), hn::Ge(x, hn::Zero(DF())));
        return hn::IfThenElseZero(is_top, hn::Set(DI(), 1));
      }
    } else {
      const VF r = hn::ConvertTo(DF(), hn::PromoteTo(DI(), hn::LoadU(DH(), noise)));
      const VF u = hn::Mul(hn::Add(r, hn::Set(DF(), 0.5f)), hn::Set(DF(), 0x1p-16f));
      VF v;
      if constexpr (shape == CodeShape::levels) v = hn::Add(hn::Mul(x, inv), levels_f32);
      if constexpr (shape == CodeShape::steps) v = hn::Mul(hn::Sub(x, min), inv);
      if constexpr (shape == CodeShape::sign)
        v = hn::Mul(hn::Add(hn::Mul(x, inv), hn::Set(DF(), 1.0f)), hn::Set(DF(), 0.5f));
      raw = hn::ConvertTo(DI(), hn::Add(v, u));
    }
    return hn::Min(hn::Max(raw, hn::Zero(DI())), top);
  }

  template <CodeShape shape>
  [[nodiscard]] HWY_INLINE VF value(VI code) const {
    if constexpr (shape == CodeShape::levels) return hn::Mul(hn::ConvertTo(DF(), hn::Sub(code, levels)), unit);
    if constexpr (shape == CodeShape::steps) return hn::Add(min, hn::Mul(hn::ConvertTo(DF(), code), unit));
    if constexpr (shape == CodeShape::sign)
      return hn::IfThenElse(hn::RebindMask(DF(), hn::Eq(code, hn::Zero(DI()))), hn::Neg(unit), unit);
  }

 private:
  static constexpr float kRounder = 0x1.8p23f;
};

template <CodeShape shape, Round rounding, bool kResidual>
void code_rows(const Coder& coder, const CodeRows& job) {
  const hn::Rebind<std::uint8_t, DF> du8;
  const Coder c = coder;
  for (std::size_t i = 0; i < job.rows * kRow; i += hn::Lanes(DF())) {
    const VF x = hn::LoadU(DF(), job.x + i);
    const VI code = c.code<shape, rounding>(x, job.noise + i);
    hn::StoreU(hn::DemoteTo(du8, code), du8, job.codes + i);
    if constexpr (kResidual) hn::StoreU(hn::Sub(x, c.value<shape>(code)), DF(), job.residual + i);
  }
}

using CodeRowsFunction = void (*)(const Coder&, const CodeRows&);

template <CodeShape shape>
CodeRowsFunction choose_code_rows(Round rounding, bool residual) {
  if (rounding == Round::nearest)
    return residual ? code_rows<shape, Round::nearest, true> : code_rows<shape, Round::nearest, false>;
  return residual ? code_rows<shape, Round::stochastic, true> : code_rows<shape, Round::stochastic, false>;
}

inline CodeRowsFunction choose_code_rows(const QuantizeParams& params, bool residual) {
  switch (shape_of(params)) {
    case CodeShape::sign: return choose_code_rows<CodeShape::sign>(params.round, residual);
    case CodeShape::steps: return choose_code_rows<CodeShape::steps>(params.round, residual);
    default: return choose_code_rows<CodeShape::levels>(params.round, residual);
  }
}

/// One encode: buckets to codes, stripes of codes to planes.
class QuantizeEncoder {
 public:
  explicit QuantizeEncoder(const kernels::QuantizeEncode& job)
      : job_(job),
        layout_{job.params, job.x.count},
        random_(job.key),
        code_rows_(choose_code_rows(job.params, job.residual != nullptr)),
        payload_(reinterpret_cast<std::uint8_t*>(job.payload)) {}

  std::size_t run() {
    const std::size_t stripe = stripe_elems(job_.params.bucket);
    for (std::size_t first = 0; first < job_.x.count; first += stripe) {
      const std::size_t end = std::min(first + stripe, job_.x.count);
      std::uint8_t* const codes = job_.params.bits == 8 ? payload_ + layout_.plane_offset(8) + first : codes_;
      for (std::size_t i = first; i < end; i += job_.params.bucket)
        if (!encode_bucket(i, std::min<std::size_t>(job_.params.bucket, end - i), codes + (i - first))) return i;
      if (job_.params.bits == 8) continue;
      const std::size_t rows = (end - first + kRow - 1) / kRow;
      std::memset(codes_ + rows * kRow, 0, (rows * kRow + kTile - 1) / kTile * kTile - rows * kRow);
      pack_planes({layout_, first / kRow, rows}, codes_, payload_);
    }
    const std::size_t scale_floats = layout_.buckets() * layout_.scale_floats();
    std::memset(payload_ + scale_floats * sizeof(float), 0, layout_.scale_bytes() - scale_floats * sizeof(float));
    return job_.x.count;
  }

 private:
  bool encode_bucket(std::size_t first, std::size_t n, std::uint8_t* codes) {
    const float* const x = values(first, n);
    BucketScale scale;
    if (!find_scale(job_.params, x, n, scale)) return false;
    write_scale(first / job_.params.bucket, scale);
    const std::uint16_t* noise = nullptr;
    if (job_.params.round == Round::stochastic) noise = noise_.fill(random_, job_.key.first_element + first, n);
    float* const residual = job_.residual == nullptr ? nullptr : job_.residual + first;

    const Coder coder(job_.params, scale);
    code_rows_(coder, {x, n / kRow, codes, residual, noise});
    const std::size_t rest = n % kRow;
    if (rest == 0) return true;
    const std::size_t whole = n - rest;
    const PaddedRow<float> tail(x + whole, rest);
    PaddedRow<float> tail_residual;
    code_rows_(coder, {tail.data, 1, codes + whole, tail_residual.data, noise == nullptr ? noise : noise + whole});
    std::memset(codes + n, 0, kRow - rest);
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
  const CodeRowsFunction code_rows_;
  std::uint8_t* const payload_;
  HWY_ALIGN std::uint8_t codes_[kMaxStripe];
  HWY_ALIGN float wide_[QuantizeParams::kMaxBucket];
  Noise noise_;
};

inline std::size_t quantize_encode(const kernels::QuantizeEncode& job) { return QuantizeEncoder(job).run(); }

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
