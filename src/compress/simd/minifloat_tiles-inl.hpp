// Tiles of f32 to planes of minifloat codes, and rows of planes back. Included once per instruction set.
#if defined(GRADWIRE_SIMD_MINIFLOAT_TILES_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_MINIFLOAT_TILES_INL_
#undef GRADWIRE_SIMD_MINIFLOAT_TILES_INL_
#else
#define GRADWIRE_SIMD_MINIFLOAT_TILES_INL_
#endif

#include <hwy/cache_control.h>

#include "compress/simd/minifloat_coder-inl.hpp"
#include "compress/simd/minifloat_scales-inl.hpp"
#include "compress/simd/tile-inl.hpp"

#include "gradwire/compressor.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

/// Tiles of 8 rows. Each row has its own scale, whoever shares it.
struct MinifloatTiles {
  const float* x;
  float* residual;             ///< null unless asked for
  const std::uint16_t* noise;  ///< null unless rounding stochastically
  const float* unit;           ///< one a row
  const float* inv;
  std::size_t ahead;     ///< how far in front of x and residual to prefetch, in elements
  std::uint8_t* first;   ///< plane of 8 or 4 bits
  std::uint8_t* second;  ///< plane of 2 bits, where the format has one
};

/// What a tile takes of each plane.
struct MinifloatTileBytes {
  std::size_t first;
  std::size_t second;
};
constexpr MinifloatTileBytes minifloat_tile_bytes(int bits) {
  if (bits == 8) return {kTile, 0};
  return {kTile / 2, bits == 6 ? kTile / 4 : 0u};
}

/// Byte `k` of word `column` goes to byte `column` of unit `k`, for four units of 16 bytes.
HWY_INLINE void store_units(const std::uint32_t* words, std::uint8_t* units) {
#if HWY_MAX_BYTES >= 64
  const hn::Repartition<std::uint8_t, DI> du8;
  HWY_ALIGN static constexpr std::uint8_t kBytesToFront[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  HWY_ALIGN static constexpr std::int32_t kBlocksToUnits[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  const auto bytes = hn::BitCast(du8, hn::Load(DU(), words));
  const auto in_blocks = hn::BitCast(DI(), hn::TableLookupBytes(bytes, hn::LoadDup128(du8, kBytesToFront)));
  const auto across_blocks = hn::TableLookupLanes(in_blocks, hn::SetTableIndices(DI(), kBlocksToUnits));
  hn::StoreU(hn::BitCast(du8, across_blocks), du8, units);
#else
  const hn::CappedTag<std::uint8_t, kRow> d;
  hn::Vec<decltype(d)> unit0, unit1, unit2, unit3;
  hn::LoadInterleaved4(d, reinterpret_cast<const std::uint8_t*>(words), unit0, unit1, unit2, unit3);
  hn::StoreU(unit0, d, units);
  hn::StoreU(unit1, d, units + kRow);
  hn::StoreU(unit2, d, units + 2 * kRow);
  hn::StoreU(unit3, d, units + 3 * kRow);
#endif
}

/// Encodes tiles. Codes of a column of a tile are gathered in 32-bit lanes, already shifted to where their plane has
/// them; so each plane's units are one transposition of bytes away.
template <MinifloatFormat format, Rounding rounding, bool kResidual>
class MinifloatTileEncoder {
 public:
  static void run(const MinifloatTiles& job, std::size_t tiles) {
    constexpr MinifloatTileBytes kBytes = minifloat_tile_bytes(kBits);
    for (std::size_t tile = 0; tile < tiles; ++tile) {
      Planes planes;
      prefetch(job, tile * kTile);
      for (std::size_t column = 0; column < kRow; column += hn::Lanes(DF())) {
        Words words{hn::Zero(DU()), hn::Zero(DU())};
        add_rows<0>(job, tile, column, words);
        hn::Store(without_bias(words.first), DU(), planes.first + column);
        if constexpr (kBits == 8) hn::Store(without_bias(words.second), DU(), planes.second + column);
        if constexpr (kBits == 6) hn::Store(words.second, DU(), planes.second + column);
      }
      store_units(planes.first, job.first + tile * kBytes.first);
      if constexpr (kBits == 8) store_units(planes.second, job.first + tile * kBytes.first + kTile / 2);
      if constexpr (kBits == 6) {
        HWY_ALIGN std::uint8_t units[4 * kRow];
        store_units(planes.second, units);
        std::memcpy(job.second + tile * kBytes.second, units, kBytes.second);
      }
    }
  }

 private:
  using F = Minifloat<format>;
  static constexpr int kBits = F::kBits;

  /// 8 bits: four rows each. 6 bits: the low 4 bits of eight rows, and their high 2. 4 bits: eight rows in `first`.
  struct Words {
    VU first;
    VU second;
  };
  struct Planes {
    HWY_ALIGN std::uint32_t first[kRow];
    HWY_ALIGN std::uint32_t second[kRow];
  };

  static HWY_INLINE void prefetch(const MinifloatTiles& job, std::size_t i) {
    for (std::size_t row = 0; row < kTile; row += kRow) {
      hwy::Prefetch(job.x + i + row + job.ahead);
      if constexpr (kResidual) hwy::Prefetch(job.residual + i + row + job.ahead);
    }
  }

  static HWY_INLINE VU without_bias(VU words) {
    if constexpr (kBits == 6) return words;
    return hn::Sub(words, hn::Set(DU(), F::kBias * (kBits == 8 ? 0x0101'0101u : 0x1111'1111u)));
  }

  template <int kNext>
  static HWY_INLINE void add_rows(const MinifloatTiles& job, std::size_t tile, std::size_t column, Words& words) {
    if constexpr (kNext < static_cast<int>(kTileRows)) {
      add_row<kNext>(encode(job, tile * kTileRows + kNext, column), words);
      add_rows<kNext + 1>(job, tile, column, words);
    }
  }

  template <int kNext>
  static HWY_INLINE void add_row(VU raw, Words& words) {
    if constexpr (kBits == 8) {
      VU& word = kNext < 4 ? words.first : words.second;
      word = hn::Add(word, hn::ShiftLeft<8 * (kNext % 4)>(raw));
    } else if constexpr (kBits == 4) {
      words.first = hn::Add(words.first, hn::ShiftLeft<4 * kNext>(raw));
    } else {
      const VU code = hn::Sub(raw, hn::Set(DU(), F::kBias));
      words.first = hn::Or(words.first, hn::ShiftLeft<4 * kNext>(hn::And(code, hn::Set(DU(), 15))));
      words.second = hn::Or(words.second, hn::ShiftLeft<2 * kNext>(hn::ShiftRight<4>(code)));
    }
  }

  static HWY_INLINE VU encode(const MinifloatTiles& job, std::size_t row, std::size_t column) {
    const std::size_t i = row * kRow + column;
    const VF x = hn::LoadU(DF(), job.x + i);
    const VU sign = F::sign_of(x);
    const VF magnitude = F::saturated_magnitude(hn::Mul(x, hn::Set(DF(), job.inv[row])));
    const auto rounded = round(job, magnitude, i);
    if constexpr (kResidual) {
      const VF value = hn::Mul(F::with_sign(rounded.magnitude, sign), hn::Set(DF(), job.unit[row]));
      hn::StoreU(hn::Sub(x, value), DF(), job.residual + i);
    }
    return F::with_sign(rounded.raw, sign);
  }

  static HWY_INLINE typename F::Rounded round(const MinifloatTiles& job, VF magnitude, std::size_t i) {
    if constexpr (rounding == Rounding::stochastic)
      return F::round_stochastic(magnitude, random_fractions(job.noise + i));
    else
      return F::round_nearest(magnitude);
  }
};

/// Rows of planes, in pairs: the first row is an even one of the frame.
struct MinifloatRows {
  const std::uint8_t* first;   ///< plane of 8 or 4 bits, from the first row on
  const std::uint8_t* second;  ///< plane of 2 bits, from its start
  std::size_t first_row;       ///< place of the first row in `second`
  const float* unit;           ///< one a row
  float* y;
};

template <MinifloatFormat format, Write write>
class MinifloatRowDecoder {
 public:
  static void run(const MinifloatRows& job, std::size_t pairs) {
    for (std::size_t pair = 0; pair < pairs; ++pair) {
      const VF unit0 = hn::Set(DF(), job.unit[2 * pair]);
      const VF unit1 = hn::Set(DF(), job.unit[2 * pair + 1]);
      float* const y = job.y + 2 * kRow * pair;
      for (std::size_t column = 0; column < kRow; column += hn::Lanes(DF())) {
        const Codes codes = load(job, pair, column);
        put(hn::Mul(value(codes.first), unit0), y + column);
        put(hn::Mul(value(codes.second), unit1), y + kRow + column);
      }
    }
  }

 private:
  using F = Minifloat<format>;
  struct Codes {
    VU first;
    VU second;
  };

  static HWY_INLINE VU load_bytes(const std::uint8_t* p) { return hn::PromoteTo(DU(), hn::LoadU(DB8(), p)); }

  static HWY_INLINE Codes load(const MinifloatRows& job, std::size_t pair, std::size_t column) {
    if constexpr (F::kBits == 8) {
      const std::uint8_t* const row = job.first + 2 * kRow * pair + column;
      return {load_bytes(row), load_bytes(row + kRow)};
    } else {
      const VU four = hn::Set(DU(), 15);
      const VU nibbles = load_bytes(job.first + kRow * pair + column);
      const Codes low{hn::And(nibbles, four), hn::ShiftRight<4>(nibbles)};
      if constexpr (F::kBits == 4) return low;
      const std::size_t row = job.first_row + 2 * pair;
      const VU unit = load_bytes(job.second + row / 4 * kRow + column);
      const VU bits = hn::ShiftRightSame(unit, static_cast<int>(2 * (row % 4)));
      const VU two = hn::Set(DU(), 0x30);
      return {hn::Or(low.first, hn::And(hn::ShiftLeft<4>(bits), two)),
              hn::Or(low.second, hn::And(hn::ShiftLeft<2>(bits), two))};
    }
  }

  static HWY_INLINE VF value(VU codes) {
#if HWY_MAX_BYTES >= 64
    // 16 numbers fit one vector.
    if constexpr (F::kBits == 4) {
      const VF numbers = F::value(hn::Iota(DU(), 0));
      return hn::TableLookupLanes(numbers, hn::IndicesFromVec(DF(), hn::BitCast(DI(), codes)));
    }
#endif
    return F::value(codes);
  }

  static HWY_INLINE void put(VF v, float* y) {
    if constexpr (write == Write::add) v = hn::Add(hn::LoadU(DF(), y), v);
    hn::StoreU(v, DF(), y);
  }
};

using MinifloatEncodeFunction = void (*)(const MinifloatTiles&, std::size_t tiles);
using MinifloatDecodeFunction = void (*)(const MinifloatRows&, std::size_t pairs);

template <MinifloatFormat format>
MinifloatEncodeFunction choose_minifloat_encode(Rounding rounding, bool residual) {
  if (rounding == Rounding::nearest)
    return residual ? MinifloatTileEncoder<format, Rounding::nearest, true>::run
                    : MinifloatTileEncoder<format, Rounding::nearest, false>::run;
  return residual ? MinifloatTileEncoder<format, Rounding::stochastic, true>::run
                  : MinifloatTileEncoder<format, Rounding::stochastic, false>::run;
}

inline MinifloatEncodeFunction choose_minifloat_encode(const MinifloatParams& params, bool residual) {
  switch (params.format) {
    case MinifloatFormat::e2m1: return choose_minifloat_encode<MinifloatFormat::e2m1>(params.round, residual);
    case MinifloatFormat::e2m3: return choose_minifloat_encode<MinifloatFormat::e2m3>(params.round, residual);
    case MinifloatFormat::e3m2: return choose_minifloat_encode<MinifloatFormat::e3m2>(params.round, residual);
    case MinifloatFormat::e5m2: return choose_minifloat_encode<MinifloatFormat::e5m2>(params.round, residual);
    default: return choose_minifloat_encode<MinifloatFormat::e4m3>(params.round, residual);
  }
}

template <MinifloatFormat format>
MinifloatDecodeFunction choose_minifloat_decode(Write write) {
  return write == Write::add ? MinifloatRowDecoder<format, Write::add>::run
                             : MinifloatRowDecoder<format, Write::assign>::run;
}

inline MinifloatDecodeFunction choose_minifloat_decode(MinifloatFormat format, Write write) {
  switch (format) {
    case MinifloatFormat::e2m1: return choose_minifloat_decode<MinifloatFormat::e2m1>(write);
    case MinifloatFormat::e2m3: return choose_minifloat_decode<MinifloatFormat::e2m3>(write);
    case MinifloatFormat::e3m2: return choose_minifloat_decode<MinifloatFormat::e3m2>(write);
    case MinifloatFormat::e5m2: return choose_minifloat_decode<MinifloatFormat::e5m2>(write);
    default: return choose_minifloat_decode<MinifloatFormat::e4m3>(write);
  }
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
