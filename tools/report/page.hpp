#pragma once
#include <string>

#include "run.hpp"

namespace gradwire::tools::report {

/// The whole page: HTML with its style and script inside. It asks for nothing else, and its Content-Security-Policy
/// forbids that it does. All figures are in the markup; without the script only the quick tips are missing.
[[nodiscard]] std::string page(const Run& run);

}  // namespace gradwire::tools::report
