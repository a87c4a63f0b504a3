#pragma once
#include <cstddef>
#include <string_view>

#include "gradwire/types.hpp"

namespace gradwire {

/// Elements in which an encoder met something it cannot encode.
struct RefusedRange {
  std::size_t first;
  std::size_t count;
  std::string_view spec;
  /// What is wrong with finite elements that are refused, after "the scale of elements a to b".
  std::string_view reason = "is above 2^126, which has no f32 inverse";
};

/// Throws Errc::non_finite, naming the first NaN or Inf of the range; without one, its scale is beyond f32's inverses.
/// An encoder that aliases its residual may have overwritten x before `range`, never inside it.
[[noreturn]] void refuse_non_finite(ConstTensor x, const RefusedRange& range);

}  // namespace gradwire
