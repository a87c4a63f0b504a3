// Five rows of ternary codes to a row of bytes and back, codes in plain order. Included once per instruction set.
#if defined(GRADWIRE_SIMD_TRITS_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_TRITS_INL_
#undef GRADWIRE_SIMD_TRITS_INL_
#else
#define GRADWIRE_SIMD_TRITS_INL_
#endif

#include "compress/simd/tile-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

inline constexpr std::size_t kTritRows = QuantizeLayout::kTritRows;

/// Whole buckets and whole units, and some hundreds of elements at least.
inline std::size_t trit_stripe_elems(std::size_t bucket) {
  const std::size_t step = bucket % (kTritRows * kRow) == 0 ? bucket : kTritRows * bucket;
  return (std::max<std::size_t>(step, 512) + step - 1) / step * step;
}
inline constexpr std::size_t kMaxTritStripe = kTritRows * QuantizeParams::kMaxBucket;

using DRow8 = hn::CappedTag<std::uint8_t, kRow>;

/// Codes behind the last row, up to a whole unit, are zero.
inline void pack_trits(const std::uint8_t* codes, std::size_t rows, std::uint8_t* bytes) {
  const DRow8 d;
  for (std::size_t unit = 0; unit * kTritRows < rows; ++unit) {
    for (std::size_t column = 0; column < kRow; column += hn::Lanes(d)) {
      const std::uint8_t* const first = codes + unit * kTritRows * kRow + column;
      auto packed = hn::LoadU(d, first + 4 * kRow);
      for (std::size_t row = kTritRows - 1; row-- != 0;)
        packed = hn::Add(hn::Add(hn::Add(packed, packed), packed), hn::LoadU(d, first + row * kRow));
      hn::StoreU(packed, d, bytes + unit * kRow + column);
    }
  }
}

/// Digits from the lowest on: a quotient by 3 is the high half of a product, exact below 2^15.
inline void unpack_trits(const std::uint8_t* bytes, std::size_t rows, std::uint8_t* codes) {
  const hn::CappedTag<std::uint16_t, kRow> d;
  const hn::Rebind<std::uint8_t, decltype(d)> narrow;
  const hn::RebindToSigned<decltype(d)> signed_words;
  const auto third = hn::Set(d, 0x5556);
  for (std::size_t unit = 0; unit * kTritRows < rows; ++unit) {
    for (std::size_t column = 0; column < kRow; column += hn::Lanes(d)) {
      auto left = hn::Min(hn::PromoteTo(d, hn::LoadU(narrow, bytes + unit * kRow + column)), hn::Set(d, 242));
      for (std::size_t row = 0; row < kTritRows; ++row) {
        const auto quotient = hn::MulHigh(left, third);
        const auto digit = hn::Sub(left, hn::Add(hn::Add(quotient, quotient), quotient));
        hn::StoreU(hn::DemoteTo(narrow, hn::BitCast(signed_words, digit)), narrow,
                   codes + (unit * kTritRows + row) * kRow + column);
        left = quotient;
      }
    }
  }
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
