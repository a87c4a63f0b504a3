#pragma once
#include <vector>

#include "gradwire/transport.hpp"

namespace gradwire::testing {

/// Ranks whose device memory a binary's transport moves: `local` through pinned buffers, or NCCL. One node, or nodes of
/// so many ranks.
[[nodiscard]] std::vector<Communicator> make_device_ranks(int ranks, int ranks_per_node = 0);

/// Ranks of which the transport's own all-reduce gives the bits that `local` gives. NCCL adds in an order of its own.
[[nodiscard]] int most_ranks_that_sum_like_local();

}  // namespace gradwire::testing
