#pragma once
#include <cstdint>

#include "gradwire/types.hpp"

namespace gradwire::tools {

/// Fills `to` (host memory, any dtype) with N(0, 1) numbers, rounded to its dtype: the start of one endless sequence
/// for each (seed, rank).
void fill_gaussian(Tensor to, std::uint64_t seed, int rank);

}  // namespace gradwire::tools
