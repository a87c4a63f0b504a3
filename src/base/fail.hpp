#pragma once
#include <fmt/format.h>

#include <utility>

#include "gradwire/error.hpp"

namespace gradwire {

/// Throws Error with a formatted message: fail(Errc::timeout, "waited {} ms", ms).
template <class... Args>
[[noreturn]] void fail(Errc code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

/// Throws Errc::invalid_argument with a formatted message unless `condition` holds.
template <class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) fail(Errc::invalid_argument, format, std::forward<Args>(args)...);
}

}  // namespace gradwire
