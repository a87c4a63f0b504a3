#pragma once
#include <nccl.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "gradwire/error.hpp"
#include "gradwire/types.hpp"

namespace gradwire {

/// Gives up a communicator and whatever runs on it. May take as long as NCCL takes to stop its kernels.
void nccl_abort(ncclComm_t comm) noexcept;

struct NcclAborter {
  void operator()(ncclComm_t comm) const noexcept { nccl_abort(comm); }
};
/// A communicator that is aborted unless it is retired.
using NcclComm = std::unique_ptr<ncclComm, NcclAborter>;

/// What NCCL says of a failed call, as an Error: NCCL's words for the code, and its last message where it has one.
[[nodiscard]] Error nccl_error(ncclResult_t code, std::string_view call, ncclComm_t comm = nullptr);

/// Throws nccl_error() unless `code` is ncclSuccess or ncclInProgress.
void nccl_check(ncclResult_t code, std::string_view call, ncclComm_t comm = nullptr);

/// True once NCCL has finished what was asked of a non-blocking communicator. Throws its failure.
[[nodiscard]] bool nccl_finished(ncclComm_t comm, std::string_view call);

/// "NCCL 2.28.9": the library that runs, not the header.
[[nodiscard]] std::string nccl_version();

/// What a rank waits with while NCCL makes a communicator: until when, and `listen`, which throws when the wait has
/// become pointless.
struct NcclPatience {
  Deadline deadline;
  std::function<void()> listen;
};

/// Collective: a non-blocking communicator of this thread's current device. Throws Errc::timeout naming the call when
/// other ranks do not come.
[[nodiscard]] NcclComm nccl_connect(const ncclUniqueId& id, int rank, int size, const NcclPatience& patience);

/// Collective over `parent`, which may be blocking or not: a non-blocking communicator of the ranks with the same
/// `color`, in the order of their ranks.
[[nodiscard]] NcclComm nccl_split(ncclComm_t parent, int color, const NcclPatience& patience);

/// Gives back a communicator on which nothing runs, and waits for the other ranks, which have to do the same.
void nccl_retire(NcclComm comm, const NcclPatience& patience) noexcept;

}  // namespace gradwire
