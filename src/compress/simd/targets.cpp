#include "compress/simd/targets.hpp"

#include <hwy/highway.h>

namespace gradwire::isa {
namespace {

/// Empty for Highway's plain C++ targets, one of which is always there as the fallback: the reference code serves.
std::string_view isa_name(std::int64_t target) {
  switch (target) {
    case HWY_AVX3_DL: return "avx3_dl";
    case HWY_AVX3: return "avx3";
    case HWY_AVX2: return "avx2";
    case HWY_SSE4: return "sse4";
    case HWY_NEON: return "neon";
    case HWY_SCALAR:
    case HWY_EMU128: return {};
    default: return "simd128";
  }
}

}  // namespace

std::vector<SimdTarget> simd_targets() {
  std::vector<SimdTarget> found;
#if (HWY_TARGETS & (HWY_TARGETS - 1)) == 0
  const std::int64_t supported = HWY_TARGETS;
#else
  const std::int64_t supported = HWY_TARGETS & hwy::SupportedTargets();
#endif
  for (std::int64_t left = supported; left != 0; left &= left - 1) {  // better targets have lower bits
    const std::int64_t bit = left & -left;
    if (const std::string_view isa = isa_name(bit); !isa.empty()) found.push_back({bit, isa});
  }
  return found;
}

}  // namespace gradwire::isa
