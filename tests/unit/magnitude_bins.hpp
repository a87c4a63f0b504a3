#pragma once
#include <cstddef>
#include <vector>

#include "compress/device/statistics_tile.hpp"

namespace gradwire::testing {

/// The histogram that kernels make of x, made on the host.
[[nodiscard]] inline std::vector<device::MagnitudeBin> bins_of(const std::vector<float>& x) {
  std::vector<device::MagnitudeBin> bins(device::kMagnitudeBins);
  for (const float value : x) {
    const std::uint32_t magnitude = device::magnitude_bits(value);
    if (magnitude == 0) continue;
    device::MagnitudeBin& bin = bins[magnitude >> device::kBinShift];
    ++bin.count;
    bin.squares += device::binned_square(magnitude);
  }
  return bins;
}

/// What the elements of these bins lose where the `kept` of largest magnitude are sent.
[[nodiscard]] inline double lost_by_bins(const std::vector<device::MagnitudeBin>& bins, std::size_t kept) {
  return device::lost_in_bins(bins.data(), bins.size() - 1, bins.size(), 0, kept);
}

}  // namespace gradwire::testing
