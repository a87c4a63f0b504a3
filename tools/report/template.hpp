#pragma once
#include <string_view>

namespace gradwire::tools::report {

/// page.html with style.css, script.js and the hashes of both in their places, as CMake put it together. In it
/// {{title}}, {{heading}}, {{heat_map}}, ... stand for parts of the page.
[[nodiscard]] std::string_view page_template();

}  // namespace gradwire::tools::report
