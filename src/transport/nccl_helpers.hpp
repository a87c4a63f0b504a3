#pragma once
#include <functional>

/// \file Threads that call what may never return, beside their owners or after them.
namespace gradwire::nccl_helpers {

/// Runs `work` on a thread that nobody joins. At exit the process waits for those that have not ended, for 10 s at
/// most: NCCL may never come back from stopping a device.
void start(std::function<void()> work);

/// How many have not ended.
[[nodiscard]] int alive();

}  // namespace gradwire::nccl_helpers
