#pragma once
#include <vector>

#include "compress/kernels.hpp"

namespace gradwire {

/// One table for each vector instruction set that this build has and this CPU runs, best first.
[[nodiscard]] std::vector<const kernels::Table*> simd_kernels();

}  // namespace gradwire
