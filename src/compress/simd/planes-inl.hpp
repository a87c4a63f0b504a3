// Codes, one a byte in order, to the bit planes of docs/wire-format.md and back. Included once per instruction set.
#if defined(GRADWIRE_SIMD_PLANES_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_PLANES_INL_
#undef GRADWIRE_SIMD_PLANES_INL_
#else
#define GRADWIRE_SIMD_PLANES_INL_
#endif

#include <algorithm>

#include "compress/quantize_params.hpp"
#include "compress/simd/element-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

/// Rows of 128 codes, the least that is a whole number of units in every plane.
inline constexpr std::size_t kTile = 8 * kRow;

/// Codes are gathered one a byte for a stripe of whole buckets before they become planes: some hundreds at least, and a
/// whole number of tiles.
inline std::size_t stripe_elems(std::size_t bucket) {
  const std::size_t step = bucket % kTile == 0 ? bucket : bucket % (kTile / 2) == 0 ? 2 * bucket : 4 * bucket;
  return (std::max<std::size_t>(step, 512) + step - 1) / step * step;
}
inline constexpr std::size_t kMaxStripe = 4 * QuantizeParams::kMaxBucket;

using DB = hn::CappedTag<std::uint8_t, kRow>;
using VB = hn::Vec<DB>;

// Bytes have no shifts of their own on x86: pairs of bytes are shifted, and bits that came from the neighbour masked.
template <int kBits>
HWY_INLINE VB shift_left(VB v) {
  const hn::RepartitionToWide<DB> wide;
  return hn::BitCast(DB(), hn::ShiftLeft<kBits>(hn::BitCast(wide, v)));
}
template <int kBits>
HWY_INLINE VB shift_right_and_mask(VB v, std::uint8_t mask) {
  const hn::RepartitionToWide<DB> wide;
  return hn::And(hn::BitCast(DB(), hn::ShiftRight<kBits>(hn::BitCast(wide, v))), hn::Set(DB(), mask));
}

/// Ors rows kNext.. of a unit into `unit`.
template <int kWidth, int kCodeBit, int kNext>
HWY_INLINE VB pack_rows(const std::uint8_t* codes, std::size_t column, VB unit) {
  constexpr auto kMask = static_cast<std::uint8_t>((1 << kWidth) - 1);
  if constexpr (kNext * kWidth < 8) {
    const VB part = shift_right_and_mask<kCodeBit>(hn::LoadU(DB(), codes + kNext * kRow + column), kMask);
    unit = hn::Or(unit, shift_left<kNext * kWidth>(part));
    return pack_rows<kWidth, kCodeBit, kNext + 1>(codes, column, unit);
  } else {
    return unit;
  }
}

template <int kWidth, int kCodeBit>
void pack_plane(const std::uint8_t* codes, std::size_t units, std::uint8_t* plane) {
  for (std::size_t unit = 0; unit < units; ++unit) {
    for (std::size_t column = 0; column < kRow; column += hn::Lanes(DB()))
      hn::StoreU(pack_rows<kWidth, kCodeBit, 0>(codes, column, hn::Zero(DB())), DB(), plane + column);
    codes += 8 / kWidth * kRow;
    plane += kRow;
  }
}

template <int kWidth, int kCodeBit, int kNext>
HWY_INLINE void unpack_rows(VB unit, std::size_t column, std::uint8_t* codes) {
  constexpr auto kMask = static_cast<std::uint8_t>((1 << kWidth) - 1);
  if constexpr (kNext * kWidth < 8) {
    VB part = shift_left<kCodeBit>(shift_right_and_mask<kNext * kWidth>(unit, kMask));
    std::uint8_t* const row = codes + kNext * kRow + column;
    if constexpr (kCodeBit != 0) part = hn::Or(part, hn::LoadU(DB(), row));
    hn::StoreU(part, DB(), row);
    unpack_rows<kWidth, kCodeBit, kNext + 1>(unit, column, codes);
  }
}

/// The plane of the codes' lowest bits assigns, the others or.
template <int kWidth, int kCodeBit>
void unpack_plane(const std::uint8_t* plane, std::size_t units, std::uint8_t* codes) {
  for (std::size_t unit = 0; unit < units; ++unit) {
    for (std::size_t column = 0; column < kRow; column += hn::Lanes(DB()))
      unpack_rows<kWidth, kCodeBit, 0>(hn::LoadU(DB(), plane + column), column, codes);
    codes += 8 / kWidth * kRow;
    plane += kRow;
  }
}

/// Calls visit(width, code_bit) as integral constants, for each plane of `bits` below 8.
template <int kWidth, int kCodeBit>
struct PlaneTag {
  static constexpr int kPlaneWidth = kWidth;
  static constexpr int kFirstBit = kCodeBit;
};
template <class Visit>
HWY_INLINE void visit_planes(std::uint32_t bits, Visit visit) {
  if ((bits & 4) != 0) visit(PlaneTag<4, 0>());
  switch (bits & 7) {
    case 1: return visit(PlaneTag<1, 0>());
    case 2: return visit(PlaneTag<2, 0>());
    case 3: visit(PlaneTag<2, 0>()); return visit(PlaneTag<1, 2>());
    case 5: return visit(PlaneTag<1, 4>());
    case 6: return visit(PlaneTag<2, 4>());
    case 7: visit(PlaneTag<2, 4>()); return visit(PlaneTag<1, 6>());
    default: return;
  }
}

/// Codes of `rows` rows from row `first_row` (a multiple of 8) on. Codes past the last row, up to a whole tile, are
/// zero when packing, and scratch when unpacking.
struct PlaneRange {
  const QuantizeLayout& layout;
  std::size_t first_row;
  std::size_t rows;

  [[nodiscard]] std::size_t offset(std::size_t width) const {
    return layout.plane_offset(width) + first_row * width / 8 * kRow;
  }
  [[nodiscard]] std::size_t units(std::size_t width) const { return (rows * width + 7) / 8; }
};

inline void pack_planes(const PlaneRange& range, const std::uint8_t* codes, std::uint8_t* payload) {
  visit_planes(range.layout.params.bits, [&](auto tag) HWY_ATTR {
    constexpr int kWidth = decltype(tag)::kPlaneWidth;
    pack_plane<kWidth, decltype(tag)::kFirstBit>(codes, range.units(kWidth), payload + range.offset(kWidth));
  });
}

inline void unpack_planes(const PlaneRange& range, const std::uint8_t* payload, std::uint8_t* codes) {
  visit_planes(range.layout.params.bits, [&](auto tag) HWY_ATTR {
    constexpr int kWidth = decltype(tag)::kPlaneWidth;
    unpack_plane<kWidth, decltype(tag)::kFirstBit>(payload + range.offset(kWidth), range.units(kWidth), codes);
  });
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
