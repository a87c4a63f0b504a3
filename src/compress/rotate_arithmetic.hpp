#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/host_device.hpp"
#include "compress/rotate_kernels.hpp"

/// \file The arithmetic of docs/wire-format.md 1.9 beside the transform's sums, which host and device code share.
namespace gradwire::rotation {

/// Bit e % 32: whether element e is negated, of the 32 elements around `element`.
[[nodiscard]] GRADWIRE_HD inline std::uint32_t sign_word(const kernels::SignKey& signs, std::size_t element) {
  return RandomStream::hash(signs.word + static_cast<std::uint32_t>(element / 32), signs.keys);
}
[[nodiscard]] GRADWIRE_HD inline bool is_negative(const kernels::SignKey& signs, std::size_t element) {
  return (sign_word(signs, element) >> (element % 32) & 1) != 0;
}

/// What a block of values y is clamped to, `squares` their sum of squares.
[[nodiscard]] GRADWIRE_HD inline float clip_limit(float clip, double squares, std::size_t size) {
  return static_cast<float>(static_cast<double>(clip) * std::sqrt(squares / static_cast<double>(size)));
}

/// How much a block's decoded values are rescaled: contractive, or unbiased where that errs by at most 3.
[[nodiscard]] GRADWIRE_HD inline float block_factor(const kernels::Products& products, bool unbiased) {
  const double yy = products.yy;
  const double yq = products.yq;
  const double qq = products.qq;
  if (qq == 0) return 1;
  const auto factor = static_cast<float>(unbiased && yq > 0 && 4 * yq * yq >= yy * qq ? yy / yq : yq / qq);
  return std::isfinite(factor) ? factor : 1;
}

}  // namespace gradwire::rotation
