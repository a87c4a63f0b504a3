// How vectors of f32 are read from and written to the three dtypes. Included once per instruction set.
#if defined(GRADWIRE_SIMD_ELEMENT_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_ELEMENT_INL_
#undef GRADWIRE_SIMD_ELEMENT_INL_
#else
#define GRADWIRE_SIMD_ELEMENT_INL_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "gradwire/types.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// A row of the frame format: no vector is longer, so that rows are whole vectors.
inline constexpr std::size_t kRow = 16;
using DF = hn::CappedTag<float, kRow>;
using DU = hn::RebindToUnsigned<DF>;
using DI = hn::RebindToSigned<DF>;
using DH = hn::Rebind<std::uint16_t, DF>;
using VF = hn::Vec<DF>;
using VU = hn::Vec<DU>;
using VI = hn::Vec<DI>;
using VH = hn::Vec<DH>;

// Highway uses the CPU's binary16 conversions from AVX2 on; its code for older ones does not round to nearest even.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)
inline constexpr bool kNativeF16 = true;
#else
inline constexpr bool kNativeF16 = false;
#endif

/// `Tag` reads and writes raw elements; widen and narrow (to nearest even) turn them into f32 and back.
template <DType dtype>
struct Element;

template <>
struct Element<DType::f32> {
  using Raw = float;
  using Tag = DF;
  static constexpr float kMax = 0x1.fffffep127f;
  static HWY_INLINE VF widen(VF v) { return v; }
  static HWY_INLINE VF narrow(VF v) { return v; }
};

template <>
struct Element<DType::bf16> {
  using Raw = std::uint16_t;
  using Tag = DH;
  static constexpr float kMax = 0x1.fep127f;
  static HWY_INLINE VF widen(VH v) { return hn::BitCast(DF(), hn::ShiftLeft<16>(hn::PromoteTo(DU(), v))); }
  static HWY_INLINE VH narrow(VF v) {
    const DU du;
    const VU bits = hn::BitCast(du, v);
    const VU odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
    const VU rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff)));
    const VU quiet = hn::Or(bits, hn::Set(du, 0x40'0000));
    const auto is_nan = hn::RebindMask(du, hn::IsNaN(v));
    return hn::TruncateTo(DH(), hn::ShiftRight<16>(hn::IfThenElse(is_nan, quiet, rounded)));
  }
};

template <>
struct Element<DType::f16> {
  using Raw = std::uint16_t;
  using Tag = DH;
  static constexpr float kMax = 65504.0f;
  static HWY_INLINE VF widen(VH v) {
    if constexpr (kNativeF16) {
      return hn::PromoteTo(DF(), hn::BitCast(hn::Rebind<hwy::float16_t, DF>(), v));
    } else {
      return widen_bits(hn::PromoteTo(DU(), v));
    }
  }
  static HWY_INLINE VH narrow(VF v) {
    if constexpr (kNativeF16) {
      return hn::BitCast(DH(), hn::DemoteTo(hn::Rebind<hwy::float16_t, DF>(), v));
    } else {
      return hn::TruncateTo(DH(), narrow_bits(hn::BitCast(DU(), v)));
    }
  }

 private:
  // half.hpp has the same steps, with words.
  static HWY_INLINE VF widen_bits(VU half) {
    const DU du;
    const VU sign = hn::ShiftLeft<16>(hn::And(half, hn::Set(du, 0x8000)));
    const VU magnitude = hn::And(half, hn::Set(du, 0x7fff));
    const VU shifted = hn::ShiftLeft<13>(magnitude);
    const VU normal = hn::Add(shifted, hn::Set(du, 0x3800'0000));
    const VU quiet = hn::IfThenElseZero(hn::Gt(magnitude, hn::Set(du, 0x7c00)), hn::Set(du, 0x40'0000));
    const VU special = hn::Or(hn::Or(shifted, hn::Set(du, 0x7f80'0000)), quiet);
    const VF exact = hn::Mul(hn::ConvertTo(DF(), hn::BitCast(DI(), magnitude)), hn::Set(DF(), 0x1p-24f));
    VU bits = hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, 0x400)), hn::BitCast(du, exact), normal);
    bits = hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, 0x7c00)), bits, special);
    return hn::BitCast(DF(), hn::Or(bits, sign));
  }

  static HWY_INLINE VU narrow_bits(VU bits) {
    const DU du;
    const VU sign = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 0x8000));
    const VU magnitude = hn::And(bits, hn::Set(du, 0x7fff'ffff));
    const VU payload = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 0x3ff));
    const VU nan = hn::Or(payload, hn::Set(du, 0x7e00));
    const VF raised = hn::Add(hn::BitCast(DF(), magnitude), hn::Set(DF(), 0.5f));
    const VU denormal = hn::Sub(hn::BitCast(du, raised), hn::Set(du, 0x3f00'0000));
    const VU odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 1));
    const VU rounding = hn::Add(odd, hn::Set(du, 0xfffu - 0x3800'0000u));
    const VU normal = hn::ShiftRight<13>(hn::Add(magnitude, rounding));
    VU half = hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, 0x3880'0000)), denormal, normal);
    half = hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, 0x4780'0000)), half, hn::Set(du, 0x7c00));
    half = hn::IfThenElse(hn::Gt(magnitude, hn::Set(du, 0x7f80'0000)), nan, half);
    return hn::Or(half, sign);
  }
};

template <DType dtype>
HWY_INLINE VF load(const typename Element<dtype>::Raw* p) {
  return Element<dtype>::widen(hn::LoadU(typename Element<dtype>::Tag(), p));
}
/// |v| as an integer: ordered like the magnitudes, with infinities and then NaN on top.
HWY_INLINE VU magnitude_bits(VF v) { return hn::And(hn::BitCast(DU(), v), hn::Set(DU(), 0x7fff'ffff)); }

/// Finite values beyond the range of dtype become the largest of their sign; infinities and NaN stay.
template <DType dtype>
HWY_INLINE VF saturate(VF v) {
  const DF df;
  const VF limit = hn::Set(df, Element<dtype>::kMax);
  const auto finite = hn::RebindMask(df, hn::Lt(magnitude_bits(v), hn::Set(DU(), 0x7f80'0000)));
  return hn::IfThenElse(finite, hn::Max(hn::Min(v, limit), hn::Neg(limit)), v);
}

/// Rounds to nearest even, saturating.
template <DType dtype>
HWY_INLINE void store(VF v, typename Element<dtype>::Raw* p) {
  if constexpr (dtype != DType::f32) v = saturate<dtype>(v);
  hn::StoreU(Element<dtype>::narrow(v), typename Element<dtype>::Tag(), p);
}

/// A row in memory, out of fewer elements: what the tails of loops run on.
template <class T>
struct PaddedRow {
  HWY_ALIGN T data[kRow] = {};
  PaddedRow() = default;
  PaddedRow(const void* from, std::size_t n) { std::memcpy(data, from, n * sizeof(T)); }
  void copy_to(void* to, std::size_t n) const { std::memcpy(to, data, n * sizeof(T)); }
};

/// Whether magnitudes up to the largest lane of `most` are all finite.
HWY_INLINE bool is_finite(VU most) { return hn::GetLane(hn::MaxOfLanes(DU(), most)) < 0x7f80'0000u; }

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
