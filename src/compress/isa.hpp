#pragma once
#include <string_view>
#include <vector>

#include "compress/kernels.hpp"

namespace gradwire::isa {

/// Instruction sets that this build has kernels for and this CPU runs, best first; "scalar", the reference code, is
/// last.
[[nodiscard]] std::vector<std::string_view> list();

/// The one in use: at first the one GRADWIRE_FORCE_ISA names, else the best.
/// Throws Errc::invalid_argument when that names none of list().
[[nodiscard]] std::string_view current();

/// Switches all threads of the process: for tests and benchmarks. Throws Errc::invalid_argument.
void select(std::string_view name);

/// The kernels of the instruction set in use, and of a named one.
[[nodiscard]] const kernels::Table& kernels_in_use();
[[nodiscard]] const kernels::Table& kernels_of(std::string_view name);

}  // namespace gradwire::isa
