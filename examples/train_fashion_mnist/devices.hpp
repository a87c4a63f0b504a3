#pragma once
#include "options.hpp"

#include "gradwire/transport.hpp"

namespace demo {

/// What ranks train over. With --device cuda the calling thread's device becomes one of the node's, which its ranks
/// take by turns; with --nccl each has its own, and NCCL joins them. Throws std::exception where devices are missing.
[[nodiscard]] gradwire::Communicator take_devices(const gradwire::Communicator& comm, const Options& options);

}  // namespace demo
