// Rounding to powers of two, a vector at a time: compress/powers.hpp has the contract. Included once per instruction
// set.
#if defined(GRADWIRE_SIMD_POWERS_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_POWERS_INL_
#undef GRADWIRE_SIMD_POWERS_INL_
#else
#define GRADWIRE_SIMD_POWERS_INL_
#endif

#include "compress/powers.hpp"
#include "compress/quantize_params.hpp"
#include "compress/simd/convert-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

class VectorPowers {
 public:
  explicit VectorPowers(const Powers& powers)
      : per_one_(hn::Set(DF(), powers.per_one())),
        before_least_(hn::Set(DI(), static_cast<std::int32_t>(powers.least) - 1)),
        top_(hn::Set(DI(), powers.top)) {}

  /// Numbers of the powers for v >= 0. `noise` is not read when rounding to nearest.
  template <Rounding rounding>
  [[nodiscard]] HWY_INLINE VI number(VF v, const std::uint16_t* noise) const {
    const VF one = hn::Set(DF(), 1.0f);
    const VF in_least = hn::Mul(v, per_one_);
    VU bits = hn::BitCast(DU(), v);
    VI small;
    if constexpr (rounding == Rounding::nearest) {
      bits = hn::Add(bits, hn::Set(DU(), 0x40'0000u));
      const auto half = hn::RebindMask(DI(), hn::Ge(in_least, hn::Set(DF(), 0.5f)));
      small = hn::IfThenElseZero(half, hn::Set(DI(), 1));
    } else {
      bits = hn::Add(bits, hn::Add(hn::ShiftLeft<7>(hn::PromoteTo(DU(), hn::LoadU(DH(), noise))), hn::Set(DU(), 64u)));
      small = truncate(hn::Add(in_least, hn::Add(random_fractions(noise), hn::Set(DF(), kHalf))));
    }
    const VI power = hn::Sub(hn::BitCast(DI(), hn::ShiftRight<23>(bits)), before_least_);
    const auto is_small = hn::RebindMask(DI(), hn::Lt(in_least, one));
    return hn::Min(hn::IfThenElse(is_small, small, power), top_);
  }

  /// The power with the sign of `sign`, or +0 for number 0.
  [[nodiscard]] HWY_INLINE VF power(VI number, VF sign) const {
    const VF power = hn::BitCast(DF(), hn::ShiftLeft<23>(hn::Add(number, before_least_)));
    const auto some = hn::RebindMask(DF(), hn::Gt(number, hn::Zero(DI())));
    return hn::IfThenElseZero(some, hn::CopySign(power, sign));
  }

 private:
  VF per_one_;
  VI before_least_, top_;
};

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
