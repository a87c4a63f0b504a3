#pragma once
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "compress/device/grid.hpp"
#include "compress/device/memory.hpp"
#include "compress/device/quantize_scale.hpp"
#include "compress/device/statistics.hpp"
#include "compress/quantize_codes.hpp"

/// \file What single threads of the statistics' kernels do.
namespace gradwire::device {

// Norms: a block a tile of elements, a thread 16 of them; then one block adds up the tiles.

inline constexpr std::size_t kNormTileParts = 4 * kBlockThreads;
[[nodiscard]] constexpr std::size_t norm_tiles(std::size_t count) noexcept {
  const std::size_t tiles = (row_parts(count) + kNormTileParts - 1) / kNormTileParts;
  return tiles == 0 ? 1 : tiles;
}

GRADWIRE_HD inline void join(Norms& norms, const Norms& other) {
  norms.squares += other.squares;
  if (norms.most_bits < other.most_bits) norms.most_bits = other.most_bits;
}

[[nodiscard]] GRADWIRE_HD inline Norms thread_norms(const ConstTensor& x, float scale, std::size_t tile,
                                                    std::size_t thread) {
  Norms norms{};
  for (std::size_t part = tile * kNormTileParts + thread; part < (tile + 1) * kNormTileParts; part += kBlockThreads) {
    const std::size_t n = there_from(x.count, part * kRowPart);
    float values[kRowPart] = {};
    load_row(x.data, x.dtype, part * kRowPart, n, values);
    GRADWIRE_UNROLL
    for (std::size_t c = 0; c < kRowPart; ++c) {
      const float value = values[c] * scale;
      join(norms, {double{value} * double{value}, magnitude_bits(value), 0});
    }
  }
  return norms;
}

// Losses of quantisers: a warp a group of buckets; then a block for each number of bits adds up the groups.

inline constexpr std::size_t kLossGroup = 2048;  ///< elements, or one bucket where these are larger

[[nodiscard]] constexpr std::size_t loss_buckets(const QuantizeParams& params) noexcept {
  return params.bucket < kLossGroup ? kLossGroup / params.bucket : 1;
}
[[nodiscard]] constexpr std::size_t loss_groups(const QuantizeLayout& layout) noexcept {
  return (layout.buckets() + loss_buckets(layout.params) - 1) / loss_buckets(layout.params);
}

/// Squares of what a lane's elements of a bucket lose with layout.params.bits.
[[nodiscard]] GRADWIRE_HD inline double lane_loss(const QuantizeLayout& layout, const ConstTensor& x,
                                                  std::size_t bucket, std::size_t lane, const BucketScale& scale) {
  const std::size_t first = bucket * layout.params.bucket;
  const std::size_t size = bucket_size(layout, bucket);
  double squares = 0;
  for (std::size_t i = lane; i < size; i += kBucketLanes) {
    const float value = load_element(x.data, x.dtype, first + i);
    const int code = code_of(layout.params, scale, value, 0, nullptr);
    const float lost = value - value_of(layout.params, scale, code, nullptr);
    squares += double{lost} * double{lost};
  }
  return squares;
}

// Losses of selections: a histogram of magnitudes, by their first 15 bits; then a block for each number of elements.

/// Elements of one bin have one exponent, and magnitudes between neighbours of bf16.
struct MagnitudeBin {
  std::uint64_t squares;  ///< of their significands, each shifted right by 16
  std::uint64_t count;
};
inline constexpr std::size_t kMagnitudeBins = std::size_t{1} << 15;
inline constexpr unsigned kBinShift = 16;     ///< bits of a magnitude that bins do not tell apart
inline constexpr unsigned kSignificand = 23;  ///< its bits, but for the leading one
inline constexpr std::size_t kLossBins = kMagnitudeBins / kBlockThreads;  ///< of a thread

/// At least 2^30 and less than 2^32, of magnitudes from 2^-126 on: cut off are less than 2^-30 of the square.
[[nodiscard]] GRADWIRE_HD inline std::uint64_t binned_square(std::uint32_t magnitude) {
  constexpr std::uint32_t kOne = std::uint32_t{1} << kSignificand;
  const std::uint64_t significand = (magnitude & (kOne - 1)) | (magnitude < kOne ? 0 : kOne);
  return significand * significand >> kBinShift;
}
/// Of what binned_square() counts in a bin.
[[nodiscard]] GRADWIRE_HD inline double square_unit(std::size_t bin) {
  const auto exponent = static_cast<int>(bin >> (kSignificand - kBinShift));
  return std::ldexp(1.0, 2 * ((exponent < 1 ? 1 : exponent) - 150) + static_cast<int>(kBinShift));
}
/// The square of the magnitude that a bin begins with.
[[nodiscard]] GRADWIRE_HD inline double edge_square(std::size_t bin) {
  const auto edge = double{std::bit_cast<float>(static_cast<std::uint32_t>(bin << kBinShift))};
  return edge * edge;
}

/// What a bin loses of which `kept` of its elements, not all, are sent: the largest, wherever they lie in it. Of n
/// elements with squares from a to b that sum to s, the k largest have at least k/n of s, at most k b and at most
/// s - (n-k) a. This takes the middle. The limits are at most k (n-k)/n (b-a) apart, and at least (n-k) a is lost: the
/// middle is off by at most (b-a)/2a of what is lost. Of a bin that is 2^-7 + 2^-15, but for magnitudes below 2^-126.
[[nodiscard]] GRADWIRE_HD inline double lost_in_cut(double squares, double count, double kept, double low,
                                                    double high) {
  const double least = squares * (kept / count);
  const double most = std::fmin(kept * high, squares - (count - kept) * low);
  return squares - (least + std::fmax(most, least)) / 2;
}

/// What bins first, first - 1, ... (`n` of them) lose where the `kept` elements of largest magnitude are sent, of which
/// `above` are in higher bins.
[[nodiscard]] GRADWIRE_HD inline double lost_in_bins(const MagnitudeBin* bins, std::size_t first, std::size_t n,
                                                     std::uint64_t above, std::uint64_t kept) {
  double lost = 0;
  for (std::size_t bin = first; bin + n > first; --bin) {
    const MagnitudeBin& each = bins[bin];
    const double squares = static_cast<double>(each.squares) * square_unit(bin);
    if (above >= kept) {
      lost += squares;
    } else if (above + each.count > kept) {
      lost += lost_in_cut(squares, static_cast<double>(each.count), static_cast<double>(kept - above), edge_square(bin),
                          edge_square(bin + 1));
    }
    above += each.count;
    if (bin == 0) break;
  }
  return lost;
}

}  // namespace gradwire::device
