#pragma once
#include "gradwire/run_log.hpp"

namespace gradwire::test {

/// Two ranks, here threads, train with a planning hook for `steps` steps: the log of rank 0.
[[nodiscard]] RunLog train_with_hook(std::uint64_t steps);

}  // namespace gradwire::test
