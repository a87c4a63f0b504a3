#pragma once
#include <vector>

#include "gradwire/nccl.hpp"

namespace gradwire::test {

/// Communicators of n ranks that are threads of this process, over make_local: element r is rank r's, which has device
/// r.
[[nodiscard]] std::vector<Communicator> make_nccl_ranks(int ranks, const NcclOptions& options = {},
                                                        int ranks_per_node = 0);
/// The same with TCP for host messages.
[[nodiscard]] std::vector<Communicator> make_nccl_tcp_ranks(int ranks, const NcclOptions& options = {});

/// The device of a rank.
[[nodiscard]] int nccl_device(int rank);

/// How many ranks there can be, as NCCL wants a device for each; 0 where there is none. The model has as many as
/// GRADWIRE_DEVICE_MODEL_DEVICES says.
[[nodiscard]] int most_nccl_ranks();

}  // namespace gradwire::test
