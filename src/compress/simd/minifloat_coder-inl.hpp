// Conversions between f32 and small floating-point formats, a vector at a time. Included once per instruction set.
#if defined(GRADWIRE_SIMD_MINIFLOAT_CODER_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_MINIFLOAT_CODER_INL_
#undef GRADWIRE_SIMD_MINIFLOAT_CODER_INL_
#else
#define GRADWIRE_SIMD_MINIFLOAT_CODER_INL_
#endif

#include "compress/minifloat_params.hpp"
#include "compress/simd/coder-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

/// Rounding is to a multiple of the step that numbers of the value's own exponent have, or of the subnormal step below
/// them: so one computation serves both. A raw code is the code plus kBias, which may wait until codes are gathered.
template <MinifloatFormat format>
struct Minifloat {
  static constexpr MinifloatShape kShape = shape_of(format);
  static constexpr int kBits = kShape.bits();
  static constexpr int kMantissa = kShape.mantissa_bits;
  static constexpr int kDropped = 23 - kMantissa;  ///< bits of an f32 mantissa
  static constexpr auto kLeast = static_cast<std::uint32_t>(kShape.least_exponent() + 127);
  static constexpr std::uint32_t kBias = kLeast << kMantissa;

  struct Rounded {
    VU raw;        ///< without the sign
    VF magnitude;  ///< what the code stands for
  };

  /// The exponent field, of which numbers below the least normal one have that one's.
  static HWY_INLINE VU exponent_of(VF magnitude) {
    return hn::Max(hn::And(hn::BitCast(DU(), magnitude), hn::Set(DU(), 0x7f80'0000)), hn::Set(DU(), kLeast << 23));
  }
  static HWY_INLINE VU exponent_steps(VU exponent) { return hn::ShiftRight<kDropped>(exponent); }

  /// Adding 2^(exponent + kDropped) makes the adder round to nearest even at the place of the mantissa's last bit.
  static HWY_INLINE Rounded round_nearest(VF magnitude) {
    const VU exponent = exponent_of(magnitude);
    const VU magic_bits = hn::Add(exponent, hn::Set(DU(), static_cast<std::uint32_t>(kDropped) << 23));
    const VF magic = hn::BitCast(DF(), magic_bits);
    const VF sum = hn::Add(magnitude, magic);
    const VU steps = hn::Sub(hn::BitCast(DU(), sum), magic_bits);
    return {hn::Add(steps, exponent_steps(exponent)), hn::Sub(sum, magic)};
  }

  /// `fraction` and kHalf make the number in (0, 1) that is added before truncation.
  static HWY_INLINE Rounded round_stochastic(VF magnitude, VF fraction) {
    const VU exponent = exponent_of(magnitude);
    const VU step = hn::Sub(exponent, hn::Set(DU(), static_cast<std::uint32_t>(kMantissa) << 23));
    const VU per_step = hn::Sub(hn::Set(DU(), 254u << 23), step);
    const VF steps = hn::Mul(magnitude, hn::BitCast(DF(), per_step));
    const VI whole = truncate(hn::Add(steps, hn::Add(fraction, hn::Set(DF(), kHalf))));
    return {hn::Add(hn::BitCast(DU(), whole), exponent_steps(exponent)),
            hn::Mul(hn::ConvertTo(DF(), whole), hn::BitCast(DF(), step))};
  }

  /// Magnitudes beyond the format's range, saturated.
  static HWY_INLINE VF saturated_magnitude(VF v) { return hn::Min(hn::Abs(v), hn::Set(DF(), kShape.max())); }

  static HWY_INLINE VU sign_of(VF v) { return hn::And(hn::BitCast(DU(), v), hn::Set(DU(), 0x8000'0000)); }
  static HWY_INLINE VU with_sign(VU code, VU sign) { return hn::Add(code, hn::ShiftRight<32 - kBits>(sign)); }
  static HWY_INLINE VF with_sign(VF magnitude, VU sign) {
    return hn::BitCast(DF(), hn::Or(hn::BitCast(DU(), magnitude), sign));
  }

  /// Numbers of codes, one code a lane.
  static HWY_INLINE VF value(VU code) {
    const VU magnitude = hn::And(code, hn::Set(DU(), kShape.sign_bit() - 1));
    const VU normal = hn::Add(hn::ShiftLeft<kDropped>(magnitude), hn::Set(DU(), (kLeast - 1) << 23));
    const VF step = hn::Set(DF(), MinifloatShape::power_of_two(kShape.least_exponent() - kMantissa));
    const VF subnormal = hn::Mul(hn::ConvertTo(DF(), hn::BitCast(DI(), magnitude)), step);
    const auto is_subnormal = hn::Lt(magnitude, hn::Set(DU(), 1u << kMantissa));
    const VF unsigned_value = hn::IfThenElse(hn::RebindMask(DF(), is_subnormal), subnormal, hn::BitCast(DF(), normal));
    return with_sign(unsigned_value, hn::ShiftLeft<32 - kBits>(hn::Sub(code, magnitude)));
  }
};

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
