// Scales of many small blocks at once, a block a lane. Included once per instruction set.
#if defined(GRADWIRE_SIMD_MINIFLOAT_SCALES_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_MINIFLOAT_SCALES_INL_
#undef GRADWIRE_SIMD_MINIFLOAT_SCALES_INL_
#else
#define GRADWIRE_SIMD_MINIFLOAT_SCALES_INL_
#endif

#include "compress/simd/minifloat_coder-inl.hpp"
#include "compress/simd/norms-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

using DB8 = hn::Rebind<std::uint8_t, DF>;
inline constexpr std::size_t kLanes = hn::MaxLanes(DF());

/// Lane i becomes the largest lane of most[i]. Each step halves the vectors: lanes of two meet in one.
HWY_INLINE VU lane_maxima(const VU* most) {
  const DU du;
  const hn::Repartition<std::uint64_t, DU> du64;
  const auto meet = [&](std::size_t i) HWY_ATTR {
    return hn::Max(hn::InterleaveLower(du, most[i], most[i + 1]), hn::InterleaveUpper(du, most[i], most[i + 1]));
  };
  // Four vectors become one: in each block of four lanes, a maximum of each vector's lanes there.
  const auto meet_four = [&](std::size_t i) HWY_ATTR {
    const auto a = hn::BitCast(du64, meet(i));
    const auto b = hn::BitCast(du64, meet(i + 2));
    return hn::Max(hn::BitCast(du, hn::InterleaveLower(du64, a, b)), hn::BitCast(du, hn::InterleaveUpper(du64, a, b)));
  };
  if constexpr (kLanes == 4) {
    return meet_four(0);
  } else {
    const auto meet_halves = [&](std::size_t low, std::size_t high) HWY_ATTR {
      const VU a = meet_four(low);
      const VU b = meet_four(high);
      return hn::Max(hn::ConcatLowerLower(du, b, a), hn::ConcatUpperUpper(du, b, a));
    };
    if constexpr (kLanes == 8) {
      return meet_halves(0, 4);
    } else {
      const VU even = meet_halves(0, 8);
      const VU odd = meet_halves(4, 12);
      return hn::Max(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(odd), even),
                     hn::OddEvenBlocks(odd, hn::SwapAdjacentBlocks(even)));
    }
  }
}

/// Largest magnitudes of kLanes runs of kRows rows each.
template <std::size_t kRows>
HWY_INLINE VU run_maxima(const float* x) {
  VU most[kLanes];
  for (std::size_t run = 0; run < kLanes; ++run) {
    most[run] = max_magnitude(hn::Zero(DU()), x + run * kRows * kRow);
    for (std::size_t row = 1; row < kRows; ++row) most[run] = max_magnitude(most[run], x + (run * kRows + row) * kRow);
  }
  return lane_maxima(most);
}

/// mx*: scales of kLanes blocks into `scales`, and units of their rows. False, and nothing written, when an element is
/// not finite.
inline bool scale_mx_blocks(const float* x, const MinifloatShape& shape, std::uint8_t* scales, float* unit,
                            float* inv) {
  const DU du;
  const VU most = run_maxima<MinifloatParams::kMxBlock / kRow>(x);
  if (!is_finite(most)) return false;
  const auto emax = static_cast<std::uint32_t>(shape.top_exponent());
  const auto is_flat = hn::Lt(most, hn::Set(du, std::bit_cast<std::uint32_t>(kMinifloatFlat)));
  const VU found = hn::Sub(hn::ShiftRight<23>(most), hn::Set(du, emax));
  const VU scale = hn::IfThenElse(is_flat, hn::Set(du, 127), found);
  const VF units = hn::BitCast(DF(), hn::ShiftLeft<23>(scale));
  const VU inverse = hn::ShiftLeft<23>(hn::Sub(hn::Set(du, 254), scale));
  const VF invs = hn::BitCast(DF(), hn::IfThenZeroElse(is_flat, inverse));
  hn::StoreU(hn::DemoteTo(DB8(), hn::BitCast(DI(), scale)), DB8(), scales);
  hn::StoreInterleaved2(units, units, DF(), unit);
  hn::StoreInterleaved2(invs, invs, DF(), inv);
  return true;
}

/// nvfp4's E4M3 scales of groups. Arrays hold whole vectors.
class GroupScales {
 public:
  /// Largest magnitudes of the groups of n elements into `most`; returns the largest of all, Inf or NaN when one is
  /// among x.
  float find_maxima(const float* x, std::size_t n, float* most) const {
    VU all = hn::Zero(DU());
    std::size_t row = 0;
    for (; (row + kLanes) * kRow <= n; row += kLanes) {
      const VU maxima = run_maxima<1>(x + row * kRow);
      hn::StoreU(hn::BitCast(DF(), maxima), DF(), most + row);
      all = hn::Max(all, maxima);
    }
    for (; row * kRow < n; ++row) {
      const std::size_t left = n - row * kRow;
      const VU magnitudes = left >= kRow ? max_magnitude(hn::Zero(DU()), x + row * kRow)
                                         : max_magnitude(hn::Zero(DU()), PaddedRow<float>(x + row * kRow, left).data);
      most[row] = hn::GetLane(hn::BitCast(DF(), hn::MaxOfLanes(DU(), magnitudes)));
      all = hn::Max(all, magnitudes);
    }
    return hn::GetLane(hn::BitCast(DF(), hn::MaxOfLanes(DU(), all)));
  }

  /// `unit`: in, the largest magnitudes of `rows` groups; out, units of rows. `inv`: out.
  void encode(const MinifloatUnit& span, Rounding round, std::size_t rows, float* unit, float* inv) {
    const VF one = hn::Set(DF(), 1.0f);
    for (std::size_t row = 0; row < rows; row += hn::Lanes(DF())) {
      const VF scale = hn::Mul(hn::LoadU(DF(), unit + row), hn::Set(DF(), span.inv));
      VU code = hn::Sub(F::round_nearest(F::saturated_magnitude(scale)).raw, hn::Set(DU(), F::kBias));
      if (round == Rounding::stochastic) {
        const auto below = hn::RebindMask(DU(), hn::Lt(F::value(code), scale));
        code = hn::Min(hn::Add(code, hn::IfThenElseZero(below, hn::Set(DU(), 1))), hn::Set(DU(), F::kShape.top));
      }
      const VF row_unit = hn::Mul(F::value(code), hn::Set(DF(), span.unit));
      const auto is_zero = hn::Eq(row_unit, hn::Zero(DF()));
      hn::StoreU(row_unit, DF(), unit + row);
      hn::StoreU(hn::IfThenZeroElse(is_zero, hn::Div(one, hn::IfThenElse(is_zero, one, row_unit))), DF(), inv + row);
      // TruncateTo from 32 to 8 bits is wrong on AVX3_DL in Highway 1.0.3.
      hn::StoreU(hn::DemoteTo(DB8(), hn::BitCast(DI(), code)), DB8(), codes_ + row);
    }
  }
  void write(std::uint8_t* scales, std::size_t rows) const { std::memcpy(scales, codes_, rows); }

  void decode(const std::uint8_t* scales, float span_unit, std::size_t rows, float* unit) {
    std::memcpy(codes_, scales, rows);
    for (std::size_t row = 0; row < rows; row += hn::Lanes(DF())) {
      const VF value = F::value(hn::PromoteTo(DU(), hn::LoadU(DB8(), codes_ + row)));
      hn::StoreU(hn::Mul(value, hn::Set(DF(), span_unit)), DF(), unit + row);
    }
  }

 private:
  using F = Minifloat<MinifloatFormat::e4m3>;
  std::uint8_t codes_[MinifloatParams::kMaxBlock / MinifloatParams::kGroup + kRow] = {};
};

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
