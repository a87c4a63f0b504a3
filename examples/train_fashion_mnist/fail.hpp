#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <utility>

namespace demo {

/// Throws std::runtime_error with a formatted message unless `condition` holds.
template <class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw std::runtime_error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace demo
