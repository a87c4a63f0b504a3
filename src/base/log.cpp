#include "base/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "base/env.hpp"

namespace gradwire::log {
namespace {

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::trace: return spdlog::level::trace;
    case Level::debug: return spdlog::level::debug;
    case Level::info: return spdlog::level::info;
    case Level::warn: return spdlog::level::warn;
    case Level::error: return spdlog::level::err;
  }
  return spdlog::level::err;
}

// Our own logger, in no global registry: the program that links gradwire may use spdlog for itself.
spdlog::logger& logger() {
  static const std::unique_ptr<spdlog::logger> instance = [] {
    auto made = std::make_unique<spdlog::logger>("gradwire", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%H:%M:%S.%e gradwire %l %v");
    made->set_level(spdlog::level::from_str(environment().log_level));
    return made;
  }();
  return *instance;
}

}  // namespace

bool enabled(Level level) noexcept {
  try {
    return logger().should_log(to_spdlog(level));
  } catch (...) {
    return false;  // a malformed GRADWIRE_LOG_LEVEL is reported where the environment is read on purpose
  }
}

void write(Level level, int rank, std::string_view message) noexcept {
  try {
    logger().log(to_spdlog(level), "[rank {}] {}", rank, message);
  } catch (...) {
    return;
  }
}

}  // namespace gradwire::log
