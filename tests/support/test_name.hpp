#pragma once
#include <cctype>
#include <string>

namespace gradwire::testing {

/// A text as part of a test's name, which may have letters, digits and underscores.
[[nodiscard]] inline std::string as_test_name(std::string text) {
  for (char& c : text)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  return text;
}

}  // namespace gradwire::testing
