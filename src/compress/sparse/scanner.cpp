#include "compress/sparse/scanner.hpp"

#include <numeric>

namespace gradwire::sparse {
Cut cut_keys(std::uint32_t* keys, std::size_t n, std::size_t k) {
  std::uint32_t prefix = 0;
  for (const auto& [shift, width] : kDigits) {
    std::uint32_t counts[1u << kHistogramBits] = {};
    const std::uint32_t mask = (1u << width) - 1;
    for (std::size_t i = 0; i < n; ++i) ++counts[(keys[i] >> shift) & mask];
    const std::uint32_t digit = find_digit(counts, (1u << width) - 1, k);
    prefix = prefix << width | digit;
    std::size_t left = 0;
    for (std::size_t i = 0; i < n; ++i) {
      keys[left] = keys[i];
      left += ((keys[i] >> shift) & mask) == digit ? 1 : 0;
    }
    n = left;
  }
  return cut_at(prefix, k);
}

Cut Scanner::cut(std::size_t k) const {
  std::uint32_t prefix = 0;
  for (const auto& [shift, width] : kDigits) {
    std::uint32_t counts[1u << kHistogramBits] = {};
    kernels_.histogram({choice_.x, shift, width, prefix, counts});
    if (shift == kDigits[0].shift) {
      if (std::accumulate(counts + (kInfinity >> shift), counts + (1u << width), 0u) != 0)
        refuse_non_finite(choice_.x, {0, choice_.x.count, choice_.spec});
    }
    prefix = prefix << width | find_digit(counts, (1u << width) - 1, k);
  }
  return cut_at(prefix, k);
}

std::size_t Scanner::take(Cut cut, const Entries& out) {
  std::size_t taken = 0;
  scan(std::max(cut.threshold, 1u), [&](const std::uint32_t* index, const float* value, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      if (!cut.takes(value[i])) continue;
      out.index[taken] = index[i];
      out.value[taken++] = value[i];
    }
    return true;
  });
  return taken;
}

}  // namespace gradwire::sparse
