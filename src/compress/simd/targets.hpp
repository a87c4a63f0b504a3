#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace gradwire::isa {

struct SimdTarget {
  std::int64_t bit;  ///< Highway's
  std::string_view isa;
};

/// The vector instruction sets that this build has and this CPU runs, best first.
[[nodiscard]] std::vector<SimdTarget> simd_targets();

}  // namespace gradwire::isa
