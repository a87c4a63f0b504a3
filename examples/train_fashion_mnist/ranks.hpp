#pragma once
#include <functional>
#include <optional>

#include "gradwire/transport.hpp"

namespace demo {

/// Runs `body` on every rank: on this process's rank when an MPI launcher started it, else on `ranks` threads (4 unless
/// told). Returns the exit code. A failure on any rank, also `ranks` that contradict the launcher, is printed, ends all
/// of them, and gives a code that is not 0.
[[nodiscard]] int run_ranks(std::optional<int> ranks, const std::function<void(const gradwire::Communicator&)>& body);

}  // namespace demo
