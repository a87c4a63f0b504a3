#pragma once
#include <string>
#include <string_view>

namespace gradwire::tools {

/// For a terminal: control characters, which names of layers may have, as JSON writes them (\u001b), so that a file
/// cannot move the cursor or colour what follows. Tabs and line breaks are such, too.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace gradwire::tools
