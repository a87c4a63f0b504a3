// Rows of values to rows of codes, one code a byte, and back. Included once per instruction set.
#if defined(GRADWIRE_SIMD_CODE_ROWS_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_CODE_ROWS_INL_
#undef GRADWIRE_SIMD_CODE_ROWS_INL_
#else
#define GRADWIRE_SIMD_CODE_ROWS_INL_
#endif

#include <hwy/cache_control.h>

#include "compress/simd/coder-inl.hpp"
#include "compress/simd/tile-inl.hpp"

#include "gradwire/compressor.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

using DB8 = hn::Rebind<std::uint8_t, DF>;

/// Rows of one bucket.
struct EncodeRows {
  CodeScheme scheme;
  BucketScale scale;
  const float* x;
  float* residual;             ///< null unless asked for
  const std::uint16_t* noise;  ///< null unless rounding stochastically
  CodeRows<std::uint8_t> codes;
  std::size_t ahead;  ///< how far in front of x and residual to prefetch, in elements
};

/// The second pass over a bucket asks for a later one: the hardware's own prefetchers stop at each turn.
template <bool kResidual>
HWY_INLINE void prefetch_row(const EncodeRows& job, std::size_t i) {
  hwy::Prefetch(job.x + i + job.ahead);
  if constexpr (kResidual) hwy::Prefetch(job.residual + i + job.ahead);
}

template <CodeShape shape, Rounding rounding, bool kResidual>
HWY_INLINE VI encode_vector(const Coder<shape, rounding>& coder, const EncodeRows& job, std::size_t i) {
  const VF x = hn::LoadU(DF(), job.x + i);
  const auto coded = coder.code(x, rounding == Rounding::stochastic ? job.noise + i : nullptr);
  if constexpr (kResidual) hn::StoreU(hn::Sub(x, coder.value(coded.level)), DF(), job.residual + i);
  return coded.raw;
}

/// `rows` rows, the first of them row `first` of the job.
template <CodeShape shape, Rounding rounding, bool kResidual>
void encode_rows(const EncodeRows& job, std::size_t first, std::size_t rows) {
  const Coder<shape, rounding> coder(job.scheme, job.scale);
  const VI bias = hn::Set(DI(), Coder<shape, rounding>::bias(job.scheme.params));
  for (std::size_t row = first; row < first + rows; ++row) {
    std::uint8_t* const codes = job.codes.row(row);
    prefetch_row<kResidual>(job, row * kRow);
    for (std::size_t j = 0; j < kRow; j += hn::Lanes(DF())) {
      const VI raw = encode_vector<shape, rounding, kResidual>(coder, job, row * kRow + j);
      hn::StoreU(hn::DemoteTo(DB8(), hn::Sub(raw, bias)), DB8(), codes + j);
    }
  }
}

#if HWY_MAX_BYTES >= 64
/// Four rows, `stride` elements apart, gathered in the bytes of 32-bit lanes: a shift and an addition a row, and one
/// transposition of 4 by 16 bytes for all of them.
template <CodeShape shape, Rounding rounding, bool kResidual>
HWY_INLINE VI encode_four_rows(const Coder<shape, rounding>& coder, const EncodeRows& job, std::size_t i,
                               std::size_t stride) {
  const VI r0 = encode_vector<shape, rounding, kResidual>(coder, job, i);
  const VI r1 = encode_vector<shape, rounding, kResidual>(coder, job, i + stride);
  const VI r2 = encode_vector<shape, rounding, kResidual>(coder, job, i + 2 * stride);
  const VI r3 = encode_vector<shape, rounding, kResidual>(coder, job, i + 3 * stride);
  return hn::Add(hn::Add(r0, hn::ShiftLeft<8>(r1)), hn::Add(hn::ShiftLeft<16>(r2), hn::ShiftLeft<24>(r3)));
}

/// Whole tiles, for which codes lie in the tile's order.
template <CodeShape shape, Rounding rounding, bool kResidual>
void encode_tiles(const EncodeRows& job, std::size_t tiles) {
  const Coder<shape, rounding> coder(job.scheme, job.scale);
  const auto bias = static_cast<std::uint32_t>(Coder<shape, rounding>::bias(job.scheme.params));
  const VI biases = hn::Set(DI(), static_cast<std::int32_t>(bias * 0x0101'0101u));
  const hn::Repartition<std::uint8_t, DI> du8;
  HWY_ALIGN static constexpr std::uint8_t kBytesToFront[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  HWY_ALIGN static constexpr std::int32_t kBlocksToRows[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  const auto in_blocks = hn::LoadDup128(du8, kBytesToFront);
  const auto across_blocks = hn::SetTableIndices(DI(), kBlocksToRows);
  const TileOrder order = job.codes.order();
  std::uint8_t* codes = job.codes.row(0);
  for (std::size_t i = 0; i < tiles * kTile; i += kTile) {
    for (std::size_t row = 0; row < kTile; row += kRow) prefetch_row<kResidual>(job, i + row);
    for (std::size_t half = 0; half < 2; ++half) {
      const VI words = hn::Sub(
          encode_four_rows<shape, rounding, kResidual>(coder, job, i + half * order.second, order.stride), biases);
      const VI quads = hn::BitCast(DI(), hn::TableLookupBytes(hn::BitCast(du8, words), in_blocks));
      hn::StoreU(hn::BitCast(du8, hn::TableLookupLanes(quads, across_blocks)), du8, codes + half * kTile / 2);
    }
    codes += kTile;
  }
}
#endif

template <CodeShape shape, Rounding rounding, bool kResidual>
void encode_bucket_rows(const EncodeRows& job, std::size_t rows) {
  std::size_t done = 0;
#if HWY_MAX_BYTES >= 64
  if (job.codes.at_tile()) {
    encode_tiles<shape, rounding, kResidual>(job, rows / 8);
    done = rows / 8 * 8;
  }
#endif
  if (done != rows) encode_rows<shape, rounding, kResidual>(job, done, rows - done);
}

using EncodeRowsFunction = void (*)(const EncodeRows&, std::size_t rows);

template <CodeShape shape, Rounding rounding>
EncodeRowsFunction choose_encode_rows(bool residual) {
  return residual ? encode_bucket_rows<shape, rounding, true> : encode_bucket_rows<shape, rounding, false>;
}

template <CodeShape shape>
EncodeRowsFunction choose_encode_rows(Rounding rounding, bool residual) {
  return rounding == Rounding::nearest ? choose_encode_rows<shape, Rounding::nearest>(residual)
                                       : choose_encode_rows<shape, Rounding::stochastic>(residual);
}

inline EncodeRowsFunction choose_encode_rows(const QuantizeParams& params, bool residual) {
  switch (shape_of(params)) {
    case CodeShape::sign: return choose_encode_rows<CodeShape::sign>(params.round, residual);
    case CodeShape::steps: return choose_encode_rows<CodeShape::steps>(params.round, residual);
    case CodeShape::exponential: return choose_encode_rows<CodeShape::exponential>(params.round, residual);
    case CodeShape::ternary: return choose_encode_rows<CodeShape::ternary, Rounding::stochastic>(residual);
    case CodeShape::learned: return choose_encode_rows<CodeShape::learned, Rounding::nearest>(residual);
    default: return choose_encode_rows<CodeShape::levels>(params.round, residual);
  }
}

struct DecodeRows {
  CodeScheme scheme;
  BucketScale scale;
  CodeRows<const std::uint8_t> codes;
  float* y;
  std::size_t ahead;  ///< how far in front of y to prefetch, in elements
};

/// Up to 16 levels fit one vector: looking a value up is cheaper than computing it.
template <CodeShape shape, Write write>
void decode_rows(const DecodeRows& job, std::size_t rows) {
  const Coder<shape, Rounding::nearest> coder(job.scheme, job.scale);
  const auto loop = [&](const auto& value_of) HWY_ATTR {
    const auto decode_row = [&](const std::uint8_t* codes, float* y) HWY_ATTR {
      __builtin_prefetch(y + job.ahead, 0, 2);
      for (std::size_t j = 0; j < kRow; j += hn::Lanes(DF())) {
        VF v = value_of(hn::PromoteTo(DI(), hn::LoadU(DB8(), codes + j)));
        if constexpr (write == Write::add) v = hn::Add(hn::LoadU(DF(), y + j), v);
        hn::StoreU(v, DF(), y + j);
      }
    };
    std::size_t row = 0;
    if (job.codes.at_tile()) {
      const std::size_t next = job.codes.order().stride == kRow ? 2 * kRow : kRow;  // from even to even and odd to odd
      const std::size_t odd = job.codes.order().stride == kRow ? kRow : kTile / 2;
      for (; row + kTileRows <= rows; row += kTileRows) {
        const std::uint8_t* const codes = job.codes.row(row);
        for (std::size_t pair = 0; pair < kTileRows / 2; ++pair) {
          decode_row(codes + pair * next, job.y + (row + 2 * pair) * kRow);
          decode_row(codes + pair * next + odd, job.y + (row + 2 * pair + 1) * kRow);
        }
      }
    }
    for (; row < rows; ++row) decode_row(job.codes.row(row), job.y + row * kRow);
  };
#if HWY_MAX_BYTES >= 64
  if (job.scheme.params.bits <= 4) {
    const VF values = coder.value(coder.level_of(hn::Iota(DI(), 0)));
    return loop([&](VI code) HWY_ATTR { return hn::TableLookupLanes(values, hn::IndicesFromVec(DF(), code)); });
  }
#endif
  loop([&](VI code) HWY_ATTR { return coder.value(coder.level_of(code)); });
}

using DecodeRowsFunction = void (*)(const DecodeRows&, std::size_t rows);

template <CodeShape shape>
DecodeRowsFunction choose_decode_rows(Write write) {
  return write == Write::add ? decode_rows<shape, Write::add> : decode_rows<shape, Write::assign>;
}

inline DecodeRowsFunction choose_decode_rows(const QuantizeParams& params, Write write) {
  switch (shape_of(params)) {
    case CodeShape::sign: return choose_decode_rows<CodeShape::sign>(write);
    case CodeShape::steps: return choose_decode_rows<CodeShape::steps>(write);
    case CodeShape::exponential: return choose_decode_rows<CodeShape::exponential>(write);
    case CodeShape::learned: return choose_decode_rows<CodeShape::learned>(write);
    default: return choose_decode_rows<CodeShape::levels>(write);
  }
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
