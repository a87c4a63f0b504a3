#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "base/host_device.hpp"
#include "compress/powers.hpp"
#include "compress/quantize_params.hpp"
#include "compress/random.hpp"

/// \file Codes of single elements of `quantize`, `sign` and `ternary`, and back: the arithmetic of
/// docs/wire-format.md 1.2, which the scalar loops and device code share.
namespace gradwire {

/// Number of the learned level nearest to v >= 0; from the middle between two, the larger.
[[nodiscard]] GRADWIRE_HD inline int learned_number(const float* levels, int top, float v) {
  int number = 0;
  for (int k = 1; k <= top; ++k) number += v >= (levels[k - 1] + levels[k]) * 0.5f ? 1 : 0;
  return number;
}

/// The code `number` levels from that of 0, on the side of x.
[[nodiscard]] GRADWIRE_HD inline int signed_code(int levels, float x, int number) {
  return std::signbit(x) ? levels - number : levels + number;
}

/// The element's code. `r`, its number of RandomStream, is not used when rounding to nearest; `codebook` for learned
/// levels only.
[[nodiscard]] GRADWIRE_HD inline int code_of(const QuantizeParams& params, const BucketScale& scale, float x,
                                             std::uint16_t r, const float* codebook) {
  const bool nearest = params.round == Rounding::nearest;
  const int levels = levels_of(params);
  const float u = RandomStream::unit_interval(r);
  float code = 0;
  switch (shape_of(params)) {
    case CodeShape::levels:
      code = nearest ? static_cast<float>(levels) + std::rint(x * scale.inv)
                     : std::trunc(x * scale.inv + (static_cast<float>(levels) + u));
      break;
    case CodeShape::ternary: code = std::trunc(x * scale.inv + (1.0f + u)); break;
    case CodeShape::sign:
      code = nearest ? (x >= 0 ? 1.0f : 0.0f) : std::trunc((x * scale.inv + 1.0f) * 0.5f + u);
      break;
    case CodeShape::steps:
      code = nearest ? std::rint((x - scale.min) * scale.inv) : std::trunc((x - scale.min) * scale.inv + u);
      break;
    case CodeShape::exponential: {
      const Powers powers = exponential_levels(levels);
      const float v = std::fabs(x) * scale.inv;
      return signed_code(levels, x, nearest ? powers.nearest(v) : powers.stochastic(v, r));
    }
    case CodeShape::learned:
      return signed_code(levels, x, learned_number(codebook + levels, levels, std::fabs(x) * scale.inv));
  }
  return std::clamp(static_cast<int>(code), 0, top_code(params));
}

[[nodiscard]] GRADWIRE_HD inline float value_of(const QuantizeParams& params, const BucketScale& scale, int code,
                                                const float* codebook) {
  const int level = code - levels_of(params);
  switch (shape_of(params)) {
    case CodeShape::levels:
    case CodeShape::ternary: return static_cast<float>(level) * scale.unit;
    case CodeShape::sign: return code != 0 ? scale.unit : -scale.unit;
    case CodeShape::steps: return scale.min + static_cast<float>(code) * scale.unit;
    case CodeShape::exponential: {
      const float power = exponential_levels(levels_of(params)).power(std::abs(level));
      return (level < 0 ? -power : power) * scale.unit;
    }
    case CodeShape::learned: return codebook[code] * scale.unit;
  }
  return 0;
}

}  // namespace gradwire
