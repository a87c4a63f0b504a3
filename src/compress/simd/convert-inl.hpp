// Conversions between f32, codes and random numbers. Included once per instruction set.
#if defined(GRADWIRE_SIMD_CONVERT_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_CONVERT_INL_
#undef GRADWIRE_SIMD_CONVERT_INL_
#else
#define GRADWIRE_SIMD_CONVERT_INL_
#endif

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

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
