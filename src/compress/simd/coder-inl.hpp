// The arithmetic of quantize, a vector at a time. Included once per instruction set.
#if defined(GRADWIRE_SIMD_CODER_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_CODER_INL_
#undef GRADWIRE_SIMD_CODER_INL_
#else
#define GRADWIRE_SIMD_CODER_INL_
#endif

#include "compress/quantize_params.hpp"
#include "compress/simd/element-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

// Highway's conversions spend four instructions on values beyond int32; codes are below 257.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
HWY_INLINE VI truncate(VF v) { return VI{_mm512_cvttps_epi32(v.raw)}; }
#elif HWY_ARCH_X86 && HWY_TARGET == HWY_AVX2
HWY_INLINE VI truncate(VF v) { return VI{_mm256_cvttps_epi32(v.raw)}; }
#elif HWY_ARCH_X86
HWY_INLINE VI truncate(VF v) { return VI{_mm_cvttps_epi32(v.raw)}; }
#else
HWY_INLINE VI truncate(VF v) { return hn::ConvertTo(DI(), v); }
#endif

/// Random numbers of the next elements, times 2^-16: what they lack to be in (0, 1) is kHalf.
HWY_INLINE VF random_fractions(const std::uint16_t* noise) {
  return hn::Mul(hn::ConvertTo(DF(), hn::PromoteTo(DI(), hn::LoadU(DH(), noise))), hn::Set(DF(), 0x1p-16f));
}
inline constexpr float kHalf = 0x1p-17f;

/// Codes of elements and back, for one bucket.
///
/// A `level` is what the unit is multiplied by (for `sign`, only its sign counts). A raw code is the code plus
/// kBias(): rounding to nearest adds a number so large that the sum's lowest bits are the rounded integer, and taking
/// that number off again can wait until codes have been gathered. Nearest codes need no clamp: scale_from_norm refuses
/// or flattens whatever could exceed the top code.
template <CodeShape shape, Round rounding>
class Coder {
 public:
  Coder(const QuantizeParams& params, const BucketScale& scale)
      : unit_(hn::Set(DF(), scale.unit)),
        inv_(hn::Set(DF(), scale.inv)),
        min_(hn::Set(DF(), scale.min)),
        levels_(hn::Set(DF(), zero_level(params))),
        threshold_(hn::Set(DF(), zero_level(params) + kHalf)),
        top_(hn::Set(DI(), top_code(params))) {}

  [[nodiscard]] static std::int32_t bias(const QuantizeParams& params) {
    if (rounding == Round::stochastic || shape == CodeShape::sign) return 0;
    return kRounderBits - static_cast<std::int32_t>(zero_level(params));
  }

  struct Coded {
    VI raw;
    VF level;
  };

  [[nodiscard]] HWY_INLINE Coded code(VF x, const std::uint16_t* noise) const {
    if constexpr (rounding == Round::stochastic) return code_stochastic(x, random_fractions(noise));
    if constexpr (shape == CodeShape::sign) {
      const VI one_or_none = hn::VecFromMask(DI(), hn::RebindMask(DI(), hn::Lt(x, hn::Zero(DF()))));
      return {hn::Add(one_or_none, hn::Set(DI(), 1)), level_of(hn::Add(one_or_none, hn::Set(DI(), 1)))};
    } else {
      const VF rounder = hn::Set(DF(), kRounder);
      const VF sum = hn::Add(hn::Mul(shape == CodeShape::steps ? hn::Sub(x, min_) : x, inv_), rounder);
      return {hn::BitCast(DI(), sum), hn::Sub(sum, rounder)};
    }
  }

  [[nodiscard]] HWY_INLINE VF level_of(VI code) const {
    if constexpr (shape == CodeShape::levels) return hn::Sub(hn::ConvertTo(DF(), code), levels_);
    return hn::ConvertTo(DF(), code);
  }

  [[nodiscard]] HWY_INLINE VF value(VF level) const {
    if constexpr (shape == CodeShape::levels) return hn::Mul(level, unit_);
    if constexpr (shape == CodeShape::steps) return hn::Add(min_, hn::Mul(level, unit_));
    return hn::IfThenElse(hn::Gt(level, hn::Zero(DF())), unit_, hn::Neg(unit_));
  }

 private:
  static constexpr float kRounder = 0x1.8p23f;
  static constexpr std::int32_t kRounderBits = 0x4b40'0000;

  [[nodiscard]] static float zero_level(const QuantizeParams& params) {
    return shape == CodeShape::levels ? static_cast<float>(levels_of(params)) : 0.0f;
  }

  [[nodiscard]] HWY_INLINE Coded code_stochastic(VF x, VF fraction) const {
    const VF u = hn::Add(fraction, threshold_);  // levels: L + u; exact, as 24 bits hold it
    VF v;
    if constexpr (shape == CodeShape::levels) v = hn::Mul(x, inv_);
    if constexpr (shape == CodeShape::steps) v = hn::Mul(hn::Sub(x, min_), inv_);
    if constexpr (shape == CodeShape::sign)
      v = hn::Mul(hn::Add(hn::Mul(x, inv_), hn::Set(DF(), 1.0f)), hn::Set(DF(), 0.5f));
    const VI code = hn::Min(truncate(hn::Add(v, u)), top_);
    return {code, level_of(code)};
  }

  VF unit_, inv_, min_, levels_, threshold_;
  VI top_;
};

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
