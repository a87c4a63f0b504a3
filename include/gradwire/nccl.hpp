#pragma once
#include <array>
#include <cstddef>

#include "gradwire/export.hpp"
#include "gradwire/transport.hpp"

namespace gradwire {

/// The bytes of an ncclUniqueId.
using NcclUniqueId = std::array<std::byte, 128>;

/// What carries messages in device memory between nodes.
enum class NcclBetween {
  nccl,  ///< NCCL, as inside a node
  host,  ///< the host channel, through pinned memory; NCCL connects the ranks of each node only
};

struct NcclOptions {
  int device = -1;  ///< this rank's CUDA device; -1 means the one that is current. NCCL wants one of its own a rank
  /// An ncclComm_t of the program's to split instead of making a new one, so that traffic never meets the program's
  /// own. It has the ranks of the communicator, stays the program's, and nothing may be in flight on it during the
  /// call.
  void* comm = nullptr;
  NcclBetween between_nodes = NcclBetween::nccl;
  /// Sends the slot and size of every device message along on the host channel and compares them where it arrives, so
  /// that ranks which call device operations in different orders get Errc::rank_mismatch. GRADWIRE_CHECK=1 turns it on.
  bool verify = false;
};

/// Ranks with a CUDA device each. NCCL moves device memory, in the order in which device operations are called: ranks
/// call them in one order over the whole communicator, whatever their slots. A device message is exactly as long as its
/// receiver's capacity. Host memory goes over `host`, which is claimed. Work completes in stream order
/// (Work::before). Sums of u16 go in pairs as u32. Lives in the component `nccl`: link gradwire::nccl.
///
/// Collective over `host` and blocking, for GRADWIRE_TIMEOUT_MS at most. Throws Errc::device where a device is missing,
/// Errc::rank_mismatch when ranks differ in options or in NCCL's version. docs/adr/0011-nccl-transport.md has the rest.
[[nodiscard]] GRADWIRE_API Communicator make_nccl(const Communicator& host, const NcclOptions& options = {});

/// For one rank to call, which gives it to the others by means of the program's own.
[[nodiscard]] GRADWIRE_API NcclUniqueId nccl_unique_id();

/// Without another communicator: host memory goes over TCP connections between all ranks. Collective over the `size`
/// ranks that have got `unique_id`.
[[nodiscard]] GRADWIRE_API Communicator make_nccl(const NcclUniqueId& unique_id, int rank, int size,
                                                  const NcclOptions& options = {});

/// The same over the ranks of `options.comm`, which must not be null.
[[nodiscard]] GRADWIRE_API Communicator make_nccl(const NcclOptions& options);

}  // namespace gradwire
