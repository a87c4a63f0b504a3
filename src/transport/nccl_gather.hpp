#pragma once
#include <nccl.h>

#include <vector>

#include "transport/socket_mesh.hpp"

namespace gradwire {

/// Every rank's card, and this rank's number among them.
struct NcclGathered {
  int rank = 0;
  std::vector<SocketCard> cards;
};

/// Collective: an all-gather over a non-blocking communicator on which nothing else runs.
[[nodiscard]] NcclGathered nccl_gather(ncclComm_t comm, const SocketCard& mine, Deadline deadline);

}  // namespace gradwire
