#include "collectives/regions.hpp"

#include <algorithm>

namespace gradwire {
namespace {

constexpr std::uint64_t kFine = 1024;  ///< steps between two places of a sketch
constexpr std::uint64_t kAlign = 256;
constexpr std::uint64_t kWide = 64 * kAlign;

/// Entries of a rank below a place, times n and kFine.
std::uint64_t entries_below(std::span<const std::uint64_t> sketch, std::uint64_t place) {
  const auto places = sketch.subspan(1);
  const auto next = std::upper_bound(places.begin(), places.end(), place);
  if (next == places.begin()) return 0;
  const auto whole = static_cast<std::uint64_t>(next - places.begin() - 1);
  const std::uint64_t left = *(next - 1);
  const std::uint64_t part = next == places.end() || *next <= left ? 0 : (place - left) * kFine / (*next - left);
  return sketch[0] * (whole * kFine + part);
}

}  // namespace

void balance_regions(std::span<const std::uint64_t> sketches, std::uint64_t total, std::span<std::uint64_t> cuts) {
  const std::size_t n = cuts.size() - 1;
  std::uint64_t entries = 0;
  const std::size_t row = sketch_size(n);
  for (std::size_t rank = 0; rank < n; ++rank) entries += sketches[rank * row];
  cuts[0] = 0;
  for (std::size_t j = 1; j < n; ++j) {
    if (entries == 0) {
      cuts[j] = total / n * j + total % n * j / n;
      continue;
    }
    std::uint64_t low = cuts[j - 1];
    std::uint64_t high = total;
    while (low < high) {  // the first place with j/n of the entries below it
      const std::uint64_t middle = low + (high - low) / 2;
      std::uint64_t below = 0;
      for (std::size_t rank = 0; rank < n; ++rank) {
        below += entries_below(sketches.subspan(rank * row, row), middle);
      }
      if (below < entries * j * kFine) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    cuts[j] = low;
  }
  cuts[n] = total;
}

void align_cuts(std::span<std::uint64_t> cuts, std::span<const std::size_t> starts) {
  for (std::size_t j = 1; j < cuts.size(); ++j) {
    if (cuts[j] - cuts[j - 1] < kWide) return;
  }
  for (std::size_t j = 1; j + 1 < cuts.size(); ++j) {
    const auto next = std::upper_bound(starts.begin(), starts.end(), cuts[j]);
    const std::uint64_t start = *(next - 1);
    const std::uint64_t aligned = start + (cuts[j] - start + kAlign / 2) / kAlign * kAlign;
    cuts[j] = std::min<std::uint64_t>(aligned, *next);
  }
}

}  // namespace gradwire
