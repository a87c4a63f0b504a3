#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

#include "compress/sparse/kernels.hpp"

/// \file Where a choice of the largest magnitudes ends, and how it is found: by radix, a digit at a time.
namespace gradwire::sparse {

[[nodiscard]] constexpr std::uint32_t magnitude(float x) noexcept {
  return std::bit_cast<std::uint32_t>(x) & kMagnitudeMask;
}

/// The 31 bits of a magnitude in three digits, highest first.
struct Digit {
  unsigned shift;
  unsigned width;
};
inline constexpr Digit kDigits[] = {{20, 11}, {10, 10}, {0, 10}};

/// The digit of the k-th largest of those counted, none of which has one above `top`; `k` becomes its rank among those
/// of the same digit.
[[nodiscard]] constexpr std::uint32_t find_digit(const std::uint32_t* counts, std::uint32_t top,
                                                 std::size_t& k) noexcept {
  std::uint32_t digit = top;
  for (; counts[digit] < k; --digit) k -= counts[digit];
  return digit;
}

/// Where a choice of the largest magnitudes ends: all above `threshold`, and the first `ties` of those at it.
struct Cut {
  std::uint32_t threshold = 0;
  std::size_t ties = 0;

  /// To be asked of elements in order.
  [[nodiscard]] constexpr bool takes(float x) noexcept {
    const std::uint32_t m = magnitude(x);
    if (m != threshold) return m > threshold;
    if (ties == 0) return false;
    --ties;
    return true;
  }
};

/// Zeros are not taken.
[[nodiscard]] constexpr Cut cut_at(std::uint32_t threshold, std::size_t ties) noexcept {
  return {threshold, threshold == 0 ? 0 : ties};
}

}  // namespace gradwire::sparse
