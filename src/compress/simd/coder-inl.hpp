// The arithmetic of quantize, a vector at a time. Included once per instruction set.
#if defined(GRADWIRE_SIMD_CODER_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_CODER_INL_
#undef GRADWIRE_SIMD_CODER_INL_
#else
#define GRADWIRE_SIMD_CODER_INL_
#endif

#include "compress/quantize_params.hpp"
#include "compress/simd/convert-inl.hpp"
#include "compress/simd/powers-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

/// What all buckets of a frame have in common.
struct CodeScheme {
  const QuantizeParams& params;
  const float* codebook;  ///< of learned levels: 16 values, 2^bits of them used
};

/// Codes of elements and back, for one bucket of uniform levels, signs or ternary codes.
///
/// A `level` is what the unit is multiplied by (for `sign`, only its sign counts). A raw code is the code plus
/// kBias(): rounding to nearest adds a number so large that the sum's lowest bits are the rounded integer, and taking
/// that number off again can wait until codes have been gathered. Nearest codes need no clamp: scale_from_norm refuses
/// or flattens whatever could exceed the top code. Neither do stochastic ones below, but those of clipped elements.
template <CodeShape shape, Rounding rounding>
class Coder {
 public:
  Coder(const CodeScheme& scheme, const BucketScale& scale)
      : unit_(hn::Set(DF(), scale.unit)),
        inv_(hn::Set(DF(), scale.inv)),
        min_(hn::Set(DF(), scale.min)),
        levels_(hn::Set(DF(), zero_level(scheme.params))),
        threshold_(hn::Set(DF(), zero_level(scheme.params) + kHalf)),
        top_(hn::Set(DI(), top_code(scheme.params))) {}

  [[nodiscard]] static std::int32_t bias(const QuantizeParams& params) {
    if (rounding == Rounding::stochastic || shape == CodeShape::sign) return 0;
    return kRounderBits - static_cast<std::int32_t>(zero_level(params));
  }

  struct Coded {
    VI raw;
    VF level;
  };

  [[nodiscard]] HWY_INLINE Coded code(VF x, const std::uint16_t* noise) const {
    if constexpr (rounding == Rounding::stochastic) return code_stochastic(x, random_fractions(noise));
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
    if constexpr (kAroundZero) return hn::Sub(hn::ConvertTo(DF(), code), levels_);
    return hn::ConvertTo(DF(), code);
  }

  [[nodiscard]] HWY_INLINE VF value(VF level) const {
    if constexpr (kAroundZero) return hn::Mul(level, unit_);
    if constexpr (shape == CodeShape::steps) return hn::Add(min_, hn::Mul(level, unit_));
    return hn::IfThenElse(hn::Gt(level, hn::Zero(DF())), unit_, hn::Neg(unit_));
  }

 private:
  static constexpr bool kAroundZero = shape == CodeShape::levels || shape == CodeShape::ternary;
  static constexpr float kRounder = 0x1.8p23f;
  static constexpr std::int32_t kRounderBits = 0x4b40'0000;

  [[nodiscard]] static float zero_level(const QuantizeParams& params) {
    return kAroundZero ? static_cast<float>(levels_of(params)) : 0.0f;
  }

  [[nodiscard]] HWY_INLINE Coded code_stochastic(VF x, VF fraction) const {
    const VF u = hn::Add(fraction, threshold_);  // levels: L + u; exact, as 24 bits hold it
    VF v;
    if constexpr (kAroundZero) v = hn::Mul(x, inv_);
    if constexpr (shape == CodeShape::steps) v = hn::Mul(hn::Sub(x, min_), inv_);
    if constexpr (shape == CodeShape::sign)
      v = hn::Mul(hn::Add(hn::Mul(x, inv_), hn::Set(DF(), 1.0f)), hn::Set(DF(), 0.5f));
    VI code = hn::Min(truncate(hn::Add(v, u)), top_);
    if constexpr (shape == CodeShape::ternary) code = hn::Max(code, hn::Zero(DI()));
    return {code, level_of(code)};
  }

  VF unit_, inv_, min_, levels_, threshold_;
  VI top_;
};

/// Magnitudes to numbers of levels, which the sign of x then puts on one side of the code of 0.
template <Rounding rounding>
class Coder<CodeShape::exponential, rounding> {
 public:
  Coder(const CodeScheme& scheme, const BucketScale& scale)
      : unit_(hn::Set(DF(), scale.unit)),
        inv_(hn::Set(DF(), scale.inv)),
        zero_code_(hn::Set(DI(), levels_of(scheme.params))),
        powers_(exponential_levels(levels_of(scheme.params))) {}

  [[nodiscard]] static std::int32_t bias(const QuantizeParams&) { return 0; }

  struct Coded {
    VI raw;
    VF level;
  };

  [[nodiscard]] HWY_INLINE Coded code(VF x, const std::uint16_t* noise) const {
    const VI number = powers_.template number<rounding>(hn::Mul(hn::Abs(x), inv_), noise);
    return {signed_code(x, number, zero_code_), powers_.power(number, x)};
  }

  [[nodiscard]] HWY_INLINE VF level_of(VI code) const {
    const VI level = hn::Sub(code, zero_code_);
    return powers_.power(hn::Abs(level), hn::BitCast(DF(), level));
  }

  [[nodiscard]] HWY_INLINE VF value(VF level) const { return hn::Mul(level, unit_); }

  [[nodiscard]] static HWY_INLINE VI signed_code(VF x, VI number, VI zero_code) {
    const VI sign = hn::BroadcastSignBit(hn::BitCast(DI(), x));
    return hn::Add(zero_code, hn::Sub(hn::Xor(number, sign), sign));
  }

 private:
  VF unit_, inv_;
  VI zero_code_;
  VectorPowers powers_;
};

/// As exponential levels, but a level's number is that of the thresholds below, half-way between levels.
template <>
class Coder<CodeShape::learned, Rounding::nearest> {
 public:
  Coder(const CodeScheme& scheme, const BucketScale& scale)
      : codebook_(scheme.codebook),
        top_(levels_of(scheme.params)),
        unit_(hn::Set(DF(), scale.unit)),
        inv_(hn::Set(DF(), scale.inv)),
        zero_code_(hn::Set(DI(), top_)) {
    const float* const levels = codebook_ + top_;
    for (std::int32_t k = 0; k < top_; ++k) {
      levels_[k] = hn::Set(DF(), levels[k + 1]);
      thresholds_[k] = hn::Set(DF(), (levels[k] + levels[k + 1]) * 0.5f);
    }
  }

  [[nodiscard]] static std::int32_t bias(const QuantizeParams&) { return 0; }

  struct Coded {
    VI raw;
    VF level;
  };

  [[nodiscard]] HWY_INLINE Coded code(VF x, const std::uint16_t*) const {
    const VF v = hn::Mul(hn::Abs(x), inv_);
    VI number = hn::Zero(DI());
    VF level = hn::Zero(DF());
    for (std::int32_t k = 0; k < top_; ++k) {
      const auto reached = hn::Ge(v, thresholds_[k]);
      number = hn::Sub(number, hn::VecFromMask(DI(), hn::RebindMask(DI(), reached)));
      level = hn::IfThenElse(reached, levels_[k], level);
    }
    const auto some = hn::RebindMask(DF(), hn::Gt(number, hn::Zero(DI())));
    return {Coder<CodeShape::exponential, Rounding::nearest>::signed_code(x, number, zero_code_),
            hn::IfThenElse(some, hn::CopySign(level, x), level)};
  }

  [[nodiscard]] HWY_INLINE VF level_of(VI code) const { return hn::GatherIndex(DF(), codebook_, code); }

  [[nodiscard]] HWY_INLINE VF value(VF level) const { return hn::Mul(level, unit_); }

 private:
  const float* codebook_;
  std::int32_t top_;
  VF unit_, inv_;
  VI zero_code_;
  VF levels_[7], thresholds_[7];
};

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
