#pragma once
#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "gradwire/export.hpp"

namespace gradwire::log {

enum class Level { trace, debug, info, warn, error };

/// Whether GRADWIRE_LOG_LEVEL lets `level` through.
[[nodiscard]] GRADWIRE_API bool enabled(Level level) noexcept;

/// One line on standard error: time, level, rank, message. Never throws.
GRADWIRE_API void write(Level level, int rank, std::string_view message) noexcept;

template <class... Args>
void line(Level level, int rank, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(level)) write(level, rank, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace gradwire::log
