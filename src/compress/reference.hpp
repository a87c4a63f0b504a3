#pragma once
#include "compress/kernels.hpp"

namespace gradwire {

/// The obvious scalar loops: the oracle that every instruction set equals bit for bit, and the kernels of the
/// instruction set "scalar".
[[nodiscard]] const kernels::Table& reference_kernels() noexcept;

}  // namespace gradwire
