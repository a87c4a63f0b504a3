#pragma once
#include <chrono>

#include "gradwire/types.hpp"

namespace gradwire {

/// `timeout` from now, or never where that is beyond what the clock can tell.
[[nodiscard]] inline Deadline deadline_after(std::chrono::milliseconds timeout) noexcept {
  const Deadline now = std::chrono::steady_clock::now();
  const auto most = std::chrono::duration_cast<std::chrono::milliseconds>(Deadline::max() - now);
  return timeout < most ? now + timeout : Deadline::max();
}

}  // namespace gradwire
