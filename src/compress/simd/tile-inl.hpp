// Where codes wait, one a byte, between rows of values and planes of bits. Included once per instruction set.
#if defined(GRADWIRE_SIMD_TILE_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_TILE_INL_
#undef GRADWIRE_SIMD_TILE_INL_
#else
#define GRADWIRE_SIMD_TILE_INL_
#endif

#include <algorithm>

#include "compress/quantize_params.hpp"
#include "compress/simd/element-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

/// 8 rows, the least that is a whole number of units in every plane.
inline constexpr std::size_t kTileRows = 8;
inline constexpr std::size_t kTile = kTileRows * kRow;

/// Codes are gathered for a stripe of whole buckets before they become planes: some hundreds at least, and a whole
/// number of tiles.
inline std::size_t stripe_elems(std::size_t bucket) {
  const std::size_t step = bucket % kTile == 0 ? bucket : bucket % (kTile / 2) == 0 ? 2 * bucket : 4 * bucket;
  return (std::max<std::size_t>(step, 512) + step - 1) / step * step;
}
inline constexpr std::size_t kMaxStripe = 4 * QuantizeParams::kMaxBucket;

/// How rows lie in a tile of codes: `plain`, or first the even rows and then the odd ones. So a plane of 4 bits is the
/// first half of a tile, or-ed with the second half shifted; a plane of 8 bits is a plain tile as it is.
struct TileOrder {
  std::size_t stride;  ///< elements between the rows of one half of a tile
  std::size_t second;  ///< element at which the rows of the second half start
};
inline constexpr TileOrder kPlainOrder{kRow, 4 * kRow};
inline constexpr TileOrder kEvenOddOrder{2 * kRow, kRow};

/// Rows of codes, writable or not, from some row of a stripe on.
template <class Byte>
class CodeRows {
 public:
  CodeRows(Byte* stripe, std::size_t first_row, bool plain) : stripe_(stripe), first_(first_row), plain_(plain) {}

  [[nodiscard]] HWY_INLINE Byte* row(std::size_t i) const {
    const std::size_t row = first_ + i;
    const std::size_t in_tile = row % kTileRows;
    return stripe_ + (plain_ ? row : row - in_tile + in_tile % 2 * (kTileRows / 2) + in_tile / 2) * kRow;
  }
  [[nodiscard]] bool at_tile() const { return first_ % kTileRows == 0; }
  [[nodiscard]] TileOrder order() const { return plain_ ? kPlainOrder : kEvenOddOrder; }
  [[nodiscard]] CodeRows from(std::size_t i) const { return {stripe_, first_ + i, plain_}; }

 private:
  Byte* stripe_;
  std::size_t first_;
  bool plain_;
};

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
