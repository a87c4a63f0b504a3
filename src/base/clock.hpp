#pragma once
#include <chrono>

namespace gradwire {

using Clock = std::chrono::steady_clock;

[[nodiscard]] inline double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

}  // namespace gradwire
