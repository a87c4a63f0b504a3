// Signs of whole tiles to a plane of one bit and back, without codes in between. Included once per instruction set.
#if defined(GRADWIRE_SIMD_SIGNS_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_SIGNS_INL_
#undef GRADWIRE_SIMD_SIGNS_INL_
#else
#define GRADWIRE_SIMD_SIGNS_INL_
#endif

#include <hwy/cache_control.h>

#include "compress/simd/code_rows-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

inline constexpr std::size_t kColumns = kRow / hn::MaxLanes(DF());  ///< vectors in a row

/// Writes the signs of `tiles` tiles and adds the magnitudes to 16 partial sums: one pass over memory. Eight rows of
/// signs meet in the top bits of 32-bit lanes, the latest on top.
inline void encode_signs(const float* x, std::size_t tiles, std::uint8_t* plane, float* sums) {
  VF sum[kColumns];
  for (std::size_t c = 0; c < kColumns; ++c) sum[c] = hn::Load(DF(), sums + c * hn::Lanes(DF()));
  for (std::size_t tile = 0; tile < tiles; ++tile) {
    for (std::size_t c = 0; c < kColumns; ++c) {
      const float* const column = x + tile * kTile + c * hn::Lanes(DF());
      VU signs = hn::Zero(DU());
      for (std::size_t row = 0; row < kTileRows; ++row) {
        const VF v = hn::LoadU(DF(), column + row * kRow);
        sum[c] = hn::Add(sum[c], hn::Abs(v));
        const VU bits = hn::BitCast(DU(), hn::Add(v, hn::Zero(DF())));  // -0 is not below 0
        signs = hn::Or(hn::ShiftRight<1>(signs), hn::And(bits, hn::Set(DU(), 0x8000'0000u)));
      }
      // Highway 1.0's TruncateTo from 32 bits to 8 picks the wrong bytes on AVX-512.
      const VU codes = hn::ShiftRight<24>(hn::Not(signs));
      hn::StoreU(hn::DemoteTo(DB8(), hn::BitCast(DI(), codes)), DB8(), plane + tile * kRow + c * hn::Lanes(DF()));
    }
  }
  for (std::size_t c = 0; c < kColumns; ++c) hn::Store(sum[c], DF(), sums + c * hn::Lanes(DF()));
}

/// `ahead`: how far in front of x and residual to prefetch, in elements.
inline void sign_residual(const float* x, std::size_t n, float unit, float* residual, std::size_t ahead) {
  const VF magnitude = hn::Set(DF(), unit);
  for (std::size_t row = 0; row < n; row += kRow) {
    hwy::Prefetch(x + row + ahead);
    hwy::Prefetch(residual + row + ahead);
    for (std::size_t i = row; i < row + kRow; i += hn::Lanes(DF())) {
      const VF v = hn::LoadU(DF(), x + i);
      hn::StoreU(hn::Sub(v, hn::CopySign(magnitude, hn::Add(v, hn::Zero(DF())))), DF(), residual + i);
    }
  }
}

template <Write write>
void decode_signs(const std::uint8_t* plane, std::size_t tiles, float unit, float* y, std::size_t ahead) {
  const VU magnitude = hn::BitCast(DU(), hn::Set(DF(), unit));
  for (std::size_t tile = 0; tile < tiles; ++tile) {
    VU codes[kColumns];
    for (std::size_t c = 0; c < kColumns; ++c)
      codes[c] =
          hn::ShiftLeft<24>(hn::Not(hn::PromoteTo(DU(), hn::LoadU(DB8(), plane + tile * kRow + c * hn::Lanes(DF())))));
    for (std::size_t row = 0; row < kTileRows; ++row) {
      float* const out = y + tile * kTile + row * kRow;
      __builtin_prefetch(out + ahead, 0, 2);
      for (std::size_t c = 0; c < kColumns; ++c) {
        const VU bits = hn::ShiftLeftSame(codes[c], static_cast<int>(kTileRows - 1 - row));
        VF v = hn::BitCast(DF(), hn::Xor(magnitude, hn::And(bits, hn::Set(DU(), 0x8000'0000u))));
        if constexpr (write == Write::add) v = hn::Add(hn::LoadU(DF(), out + c * hn::Lanes(DF())), v);
        hn::StoreU(v, DF(), out + c * hn::Lanes(DF()));
      }
    }
  }
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
