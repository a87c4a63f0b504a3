// natural: elements to bytes and back. Included once per instruction set.
#if defined(GRADWIRE_SIMD_NATURAL_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_NATURAL_INL_
#undef GRADWIRE_SIMD_NATURAL_INL_
#else
#define GRADWIRE_SIMD_NATURAL_INL_
#endif

#include <hwy/cache_control.h>

#include <algorithm>

#include "compress/natural_codes.hpp"
#include "compress/natural_kernels.hpp"
#include "compress/simd/elementwise-inl.hpp"
#include "compress/simd/noise-inl.hpp"
#include "compress/simd/powers-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

using DNaturalByte = hn::Rebind<std::uint8_t, DF>;

/// Elements whose random numbers are drawn together: they stay in the first-level cache.
inline constexpr std::size_t kNaturalBlock = 1024;
/// Three streams are more than the hardware's prefetchers serve well when two of them are written: measured, a third.
inline constexpr std::size_t kNaturalAheadElems = 2048 / sizeof(float);

/// Whole rows.
template <DType From>
struct NaturalRows {
  const typename Element<From>::Raw* x;
  const std::uint16_t* noise;  ///< null when rounding to nearest
  std::uint8_t* codes;
  float* residual;  ///< null unless asked for
  std::size_t n;
  std::size_t ahead;  ///< how far in front of x and the residual to prefetch, in elements
};

/// The largest magnitude.
template <DType From, Rounding rounding, bool kResidual>
VU natural_encode_rows(const NaturalRows<From>& job) {
  const VectorPowers powers(natural_powers());
  VU most = hn::Zero(DU());
  for (std::size_t i = 0; i < job.n; i += hn::Lanes(DF())) {
    if constexpr (kResidual) {
      hwy::Prefetch(job.x + i + job.ahead);
      hwy::Prefetch(job.residual + i + job.ahead);
    }
    const VF x = load<From>(job.x + i);
    most = hn::Max(most, magnitude_bits(x));
    const VI number = powers.number<rounding>(hn::Abs(x), rounding == Rounding::stochastic ? job.noise + i : nullptr);
    const VI sign = hn::And(hn::BroadcastSignBit(hn::BitCast(DI(), x)), hn::Set(DI(), 0x80));
    const VI code = hn::Or(number, hn::IfThenElseZero(hn::Gt(number, hn::Zero(DI())), sign));
    hn::StoreU(hn::DemoteTo(DNaturalByte(), code), DNaturalByte(), job.codes + i);
    if constexpr (kResidual) hn::StoreU(hn::Sub(x, powers.power(number, x)), DF(), job.residual + i);
  }
  return most;
}

template <DType From, Rounding rounding, bool kResidual>
bool natural_encode_as(const kernels::NaturalEncode& job) {
  using Raw = typename Element<From>::Raw;
  const auto* const x = static_cast<const Raw*>(job.x.data);
  const RandomStream random(job.key);
  Noise noise;
  VU most = hn::Zero(DU());
  for (std::size_t first = 0; first < job.x.count; first += kNaturalBlock) {
    const std::size_t n = std::min(kNaturalBlock, job.x.count - first);
    const std::size_t rest = n % kRow;
    const std::size_t whole = n - rest;
    const std::uint16_t* numbers = nullptr;
    if constexpr (rounding == Rounding::stochastic) numbers = noise.fill(random, job.key.first_element + first, n);
    float* const residual = kResidual ? job.residual + first : nullptr;
    const std::size_t ahead = first + n + kNaturalAheadElems <= job.x.count ? kNaturalAheadElems : 0;
    most = hn::Max(most, natural_encode_rows<From, rounding, kResidual>(
                             {x + first, numbers, job.codes + first, residual, whole, ahead}));
    if (rest == 0) continue;
    const PaddedRow<Raw> tail(x + first + whole, rest);
    PaddedRow<std::uint8_t> tail_codes;
    PaddedRow<float> tail_residual;
    if constexpr (rounding == Rounding::stochastic) numbers += whole;
    most = hn::Max(most, natural_encode_rows<From, rounding, kResidual>(
                             {tail.data, numbers, tail_codes.data, tail_residual.data, kRow, 0}));
    tail_codes.copy_to(job.codes + first + whole, rest);
    if constexpr (kResidual) tail_residual.copy_to(residual + whole, rest);
  }
  return is_finite(most);
}

inline bool natural_encode(const kernels::NaturalEncode& job) {
  return visit_dtype(job.x.dtype, [&](auto dtype) HWY_ATTR {
    constexpr DType kFrom = decltype(dtype)::value;
    const bool residual = job.residual != nullptr;
    if (job.round == Rounding::nearest)
      return residual ? natural_encode_as<kFrom, Rounding::nearest, true>(job)
                      : natural_encode_as<kFrom, Rounding::nearest, false>(job);
    return residual ? natural_encode_as<kFrom, Rounding::stochastic, true>(job)
                    : natural_encode_as<kFrom, Rounding::stochastic, false>(job);
  });
}

template <DType To, Write write>
void natural_decode_rows(const std::uint8_t* codes, typename Element<To>::Raw* y, std::size_t n) {
  const VectorPowers powers(natural_powers());
  const VI nan_code = hn::Set(DI(), natural::kNaNCode);
  const VF nan = hn::Set(DF(), natural::value_of(natural::kNaNCode));
  for (std::size_t i = 0; i < n; i += hn::Lanes(DF())) {
    const VI code = hn::PromoteTo(DI(), hn::LoadU(DNaturalByte(), codes + i));
    VF v = powers.power(hn::And(code, hn::Set(DI(), 0x7f)), hn::BitCast(DF(), hn::ShiftLeft<24>(code)));
    v = hn::IfThenElse(hn::RebindMask(DF(), hn::Eq(code, nan_code)), nan, v);
    if constexpr (write == Write::add) v = hn::Add(load<To>(y + i), v);
    store<To>(v, y + i);
  }
}

template <DType To, Write write>
void natural_decode_as(const kernels::NaturalDecode& job) {
  using Raw = typename Element<To>::Raw;
  auto* const y = static_cast<Raw*>(job.y.data);
  const std::size_t rest = job.y.count % kRow;
  const std::size_t whole = job.y.count - rest;
  natural_decode_rows<To, write>(job.codes, y, whole);
  if (rest == 0) return;
  const PaddedRow<std::uint8_t> tail_codes(job.codes + whole, rest);
  PaddedRow<Raw> tail(y + whole, rest);
  natural_decode_rows<To, write>(tail_codes.data, tail.data, kRow);
  tail.copy_to(y + whole, rest);
}

inline void natural_decode(const kernels::NaturalDecode& job) {
  visit_dtype(job.y.dtype, [&](auto dtype) HWY_ATTR {
    constexpr DType kTo = decltype(dtype)::value;
    if (job.write == Write::add) return natural_decode_as<kTo, Write::add>(job);
    return natural_decode_as<kTo, Write::assign>(job);
  });
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
