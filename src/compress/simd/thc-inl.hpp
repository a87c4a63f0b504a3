// thc: codes of rotated values and sums of codes. Included once per instruction set.
#if defined(GRADWIRE_SIMD_THC_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_THC_INL_
#undef GRADWIRE_SIMD_THC_INL_
#else
#define GRADWIRE_SIMD_THC_INL_
#endif

#include "compress/simd/coder-inl.hpp"
#include "compress/simd/noise-inl.hpp"
#include "compress/thc_kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

template <class T>
HWY_INLINE void store_codes(VI codes, T* to) {
  if constexpr (sizeof(T) == 4) {
    hn::StoreU(hn::BitCast(DU(), codes), DU(), to);
  } else {
    const hn::Rebind<T, DF> narrow;
    hn::StoreU(hn::DemoteTo(narrow, codes), narrow, to);
  }
}

template <class T>
HWY_INLINE VI load_codes(const T* from) {
  if constexpr (sizeof(T) == 4) {
    return hn::BitCast(DI(), hn::LoadU(DU(), from));
  } else {
    return hn::PromoteTo(DI(), hn::LoadU(hn::Rebind<T, DF>(), from));
  }
}

template <class T>
void thc_encode_as(const kernels::ThcEncode& job) {
  auto* const codes = static_cast<T*>(job.codes.data);
  const RandomStream random(job.key);
  const float middle = static_cast<float>(job.top) * 0.5f;
  const VF inv = hn::Set(DF(), job.inv);
  const VF most = hn::Set(DF(), middle);
  const VF least = hn::Set(DF(), -middle);
  const VF threshold = hn::Set(DF(), middle + kHalf);
  const VI top = hn::Set(DI(), static_cast<std::int32_t>(job.top));
  constexpr std::size_t kRun = 1024;  // numbers at a time
  Noise noise;
  for (std::size_t first = 0; first < job.codes.count; first += kRun) {
    const std::size_t n = std::min(kRun, job.codes.count - first);
    const std::uint16_t* const numbers = noise.fill(random, job.key.first_element + first, n);
    for (std::size_t i = 0; i < n; i += hn::Lanes(DF())) {
      const VF level = hn::Min(hn::Max(hn::Mul(hn::LoadU(DF(), job.y + first + i), inv), least), most);
      const VI code = truncate(hn::Add(level, hn::Add(random_fractions(numbers + i), threshold)));
      store_codes(hn::Min(code, top), codes + first + i);
    }
  }
}

template <class T>
void thc_decode_as(const kernels::ThcDecode& job) {
  const auto* const codes = static_cast<const T*>(job.codes.data);
  const VI offset = hn::Set(DI(), job.offset);
  const VF half_unit = hn::Set(DF(), job.half_unit);
  for (std::size_t i = 0; i < job.codes.count; i += hn::Lanes(DF())) {
    const VI level = hn::Sub(hn::ShiftLeft<1>(load_codes(codes + i)), offset);
    hn::StoreU(hn::Mul(hn::ConvertTo(DF(), level), half_unit), DF(), job.v + i);
  }
}

inline void thc_encode(const kernels::ThcEncode& job) {
  if (job.codes.dtype == DType::u8) return thc_encode_as<std::uint8_t>(job);
  if (job.codes.dtype == DType::u16) return thc_encode_as<std::uint16_t>(job);
  thc_encode_as<std::uint32_t>(job);
}

inline void thc_decode(const kernels::ThcDecode& job) {
  if (job.codes.dtype == DType::u8) return thc_decode_as<std::uint8_t>(job);
  if (job.codes.dtype == DType::u16) return thc_decode_as<std::uint16_t>(job);
  thc_decode_as<std::uint32_t>(job);
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
