// Tiles of codes to the bit planes of docs/wire-format.md and back. Included once per instruction set.
#if defined(GRADWIRE_SIMD_PLANES_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_PLANES_INL_
#undef GRADWIRE_SIMD_PLANES_INL_
#else
#define GRADWIRE_SIMD_PLANES_INL_
#endif

#include "compress/simd/tile-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

// Bytes have no shifts of their own on x86: pairs of bytes are shifted, and bits that came from the neighbour masked.
template <int kBits, class V>
HWY_INLINE V shift_left(V v) {
  const hn::DFromV<V> d;
  return hn::BitCast(d, hn::ShiftLeft<kBits>(hn::BitCast(hn::RepartitionToWide<decltype(d)>(), v)));
}
template <int kBits, class V>
HWY_INLINE V shift_right_and_mask(V v, std::uint8_t mask) {
  const hn::DFromV<V> d;
  return hn::And(hn::BitCast(d, hn::ShiftRight<kBits>(hn::BitCast(hn::RepartitionToWide<decltype(d)>(), v))),
                 hn::Set(d, mask));
}

/// A plane of `kWidth` bits holds bits kFirst.. of the codes.
template <int kWidth, int kFirst>
struct Plane {
  static constexpr int kPlaneWidth = kWidth;
  static constexpr std::size_t kUnitRows = 8 / kWidth;  ///< rows that share a unit of 16 bytes
  static constexpr std::size_t kTileUnits = kWidth;
  static constexpr auto kMask = static_cast<std::uint8_t>((1 << kWidth) - 1);

  /// Where a unit's first row lies in its tile, and row `k` of a unit from there, in the order kEvenOddOrder.
  static constexpr std::size_t unit_offset(std::size_t unit) {
    return unit / kTileUnits * kTile + unit % kTileUnits * (kUnitRows / 2) * kRow;
  }
  static constexpr std::size_t row_offset(std::size_t k) { return (k % 2 * (kTileRows / 2) + k / 2) * kRow; }

  template <class D, std::size_t kNext = 0>
  static HWY_INLINE hn::Vec<D> pack(D d, const std::uint8_t* codes, hn::Vec<D> unit) {
    if constexpr (kNext < kUnitRows) {
      const auto part = shift_right_and_mask<kFirst>(hn::LoadU(d, codes + row_offset(kNext)), kMask);
      unit = hn::Or(unit, shift_left<static_cast<int>(kNext) * kWidth>(part));
      return pack<D, kNext + 1>(d, codes, unit);
    }
    return unit;
  }

  /// The plane of the codes' lowest bits assigns them, the others or theirs in.
  template <class D, std::size_t kNext = 0>
  static HWY_INLINE void unpack(D d, hn::Vec<D> unit, std::uint8_t* codes) {
    if constexpr (kNext < kUnitRows) {
      std::uint8_t* const row = codes + row_offset(kNext);
      auto part = shift_left<kFirst>(shift_right_and_mask<static_cast<int>(kNext) * kWidth>(unit, kMask));
      if constexpr (kFirst != 0) part = hn::Or(part, hn::LoadU(d, row));
      hn::StoreU(part, d, row);
      unpack<D, kNext + 1>(d, unit, codes);
    }
  }
};

/// Calls visit(d, unit, column) for vectors that cover `units` units. The units of a tile are neighbours on both sides
/// when a plane is 4 wide, and then go together.
template <class P, class Visit>
HWY_INLINE void visit_units(std::size_t units, const Visit& visit) {
  std::size_t unit = 0;
  if constexpr (P::kPlaneWidth == 4) {
    const hn::CappedTag<std::uint8_t, 4 * kRow> wide;
    for (; unit + P::kTileUnits <= units; unit += P::kTileUnits)
      for (std::size_t column = 0; column < 4 * kRow; column += hn::Lanes(wide)) visit(wide, unit, column);
  }
  const hn::CappedTag<std::uint8_t, kRow> narrow;
  for (; unit < units; ++unit)
    for (std::size_t column = 0; column < kRow; column += hn::Lanes(narrow)) visit(narrow, unit, column);
}

template <class P>
void pack_plane(const std::uint8_t* codes, std::size_t units, std::uint8_t* plane) {
  visit_units<P>(units, [&](auto d, std::size_t unit, std::size_t column) HWY_ATTR {
    const auto packed = P::pack(d, codes + P::unit_offset(unit) + column, hn::Zero(d));
    hn::StoreU(packed, d, plane + unit * kRow + column);
  });
}

template <class P>
void unpack_plane(const std::uint8_t* plane, std::size_t units, std::uint8_t* codes) {
  visit_units<P>(units, [&](auto d, std::size_t unit, std::size_t column) HWY_ATTR {
    P::unpack(d, hn::LoadU(d, plane + unit * kRow + column), codes + P::unit_offset(unit) + column);
  });
}

template <class Visit>
HWY_INLINE void visit_planes(std::uint32_t bits, const Visit& visit) {
  if ((bits & 4) != 0) visit(Plane<4, 0>());
  switch (bits) {
    case 1: return visit(Plane<1, 0>());
    case 2: return visit(Plane<2, 0>());
    case 3: visit(Plane<2, 0>()); return visit(Plane<1, 2>());
    case 5: return visit(Plane<1, 4>());
    case 6: return visit(Plane<2, 4>());
    case 7: visit(Plane<2, 4>()); return visit(Plane<1, 6>());
    default: return;
  }
}

/// A stripe's share of the planes: `rows` rows from row `first_row` (a multiple of 8) on. Codes past the last row, up
/// to a whole tile, are zero when packing, and scratch when unpacking.
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
  visit_planes(range.layout.params.bits, [&](auto plane) HWY_ATTR {
    using P = decltype(plane);
    pack_plane<P>(codes, range.units(P::kPlaneWidth), payload + range.offset(P::kPlaneWidth));
  });
}

inline void unpack_planes(const PlaneRange& range, const std::uint8_t* payload, std::uint8_t* codes) {
  visit_planes(range.layout.params.bits, [&](auto plane) HWY_ATTR {
    using P = decltype(plane);
    unpack_plane<P>(payload + range.offset(P::kPlaneWidth), range.units(P::kPlaneWidth), codes);
  });
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
