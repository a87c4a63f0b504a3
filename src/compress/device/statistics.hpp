#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/quantize_params.hpp"

#include "gradwire/types.hpp"

/// \file What planning asks of tensors in device memory (docs/adr/0010, "Statistics"). As in device/codecs.hpp, calls
/// only launch; results go to device or pinned memory. Sums are doubles in an order that only the number of elements
/// decides: the same bits from any grid, but not the host's, which adds in another order (adr/0010 says how far apart).
namespace gradwire::device {

struct Norms {
  double squares;           ///< their sum
  std::uint32_t most_bits;  ///< of the largest magnitude: as bits, NaN is above Inf is above all else
  std::uint32_t zero;
};
[[nodiscard]] constexpr bool is_finite(const Norms& norms) noexcept { return norms.most_bits < 0x7f80'0000u; }

/// Of scale * x, rounded to f32; x of any float dtype.
void find_norms(ConstTensor x, float scale, Norms* out, StreamRef stream);

/// kernels::QuantizeErrors on a device. A bucket that encoding would refuse makes all sums NaN.
struct QuantizeLosses {
  static constexpr std::size_t kMostWidths = 8;

  QuantizeParams params;  ///< what they have in common: bucket and norm
  ConstTensor x;          ///< f32
  std::uint32_t bits[kMostWidths];
  std::uint32_t widths;
  double* squares;  ///< of each of `bits`
};
void find_quantize_losses(const QuantizeLosses& job, StreamRef stream);

/// Of each number of elements, the sum of squares of all but so many of largest magnitude, to 0.8 % of itself
/// (lost_in_cut() has the limit). One pass over x for all of them.
struct SelectionLosses {
  static constexpr std::size_t kMostCounts = 32;

  ConstTensor x;  ///< f32, all finite
  std::uint64_t kept[kMostCounts];
  std::uint32_t counts;
  double* squares;  ///< of each of `kept`
};
void find_selection_losses(const SelectionLosses& job, StreamRef stream);

}  // namespace gradwire::device
