#pragma once
#include <vector>

#include "gradwire/nccl.hpp"

namespace gradwire::test {

/// Communicators of n ranks that are threads of this process, over make_local: element r is rank r's. On a machine with
/// several devices rank r has device r; the model has one for all.
[[nodiscard]] std::vector<Communicator> make_nccl_ranks(int ranks, const NcclOptions& options = {},
                                                        int ranks_per_node = 0);
/// The same with TCP for host messages.
[[nodiscard]] std::vector<Communicator> make_nccl_tcp_ranks(int ranks, const NcclOptions& options = {});

/// The device of a rank.
[[nodiscard]] int nccl_device(int rank);

/// How many ranks there can be, 0 where there is no device.
[[nodiscard]] int most_nccl_ranks();

}  // namespace gradwire::test
