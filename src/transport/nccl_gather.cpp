#include "transport/nccl_gather.hpp"

#include <cstring>

#include "base/backoff.hpp"
#include "base/cuda.hpp"
#include "base/device.hpp"
#include "base/fail.hpp"
#include "transport/nccl_session.hpp"

#include "gradwire/buffer.hpp"

namespace gradwire {
namespace {

template <class Ready>
void await(Deadline deadline, Ready&& ready) {
  for (Backoff backoff; !ready(); backoff.pause()) {
    if (std::chrono::steady_clock::now() < deadline) continue;
    fail(Errc::timeout, "make_nccl: the ranks' addresses did not come until the deadline: every rank has to call it");
  }
}

/// Device memory that a peer may reach directly, as memory of a pool may not be. Until it is unused a kernel may wait
/// for other ranks, and freeing it would wait for that kernel.
class OrAbandoned {
 public:
  explicit OrAbandoned(std::size_t bytes) : memory_(bytes, Space::device) {}
  OrAbandoned(const OrAbandoned&) = delete;
  OrAbandoned& operator=(const OrAbandoned&) = delete;
  ~OrAbandoned() {
    if (in_use_) memory_.abandon();
  }
  void unused() noexcept { in_use_ = false; }
  [[nodiscard]] std::byte* data() const noexcept { return memory_.data(); }

 private:
  Buffer memory_;
  bool in_use_ = true;
};

}  // namespace

/// A sum of bytes of which one rank's alone are not zero.
NcclGathered nccl_gather(ncclComm_t comm, const SocketCard& mine, Deadline deadline) {
  NcclGathered gathered;
  int size = 0;
  nccl_check(ncclCommCount(comm, &size), "ncclCommCount", comm);
  nccl_check(ncclCommUserRank(comm, &gathered.rank), "ncclCommUserRank", comm);
  gathered.cards.resize(static_cast<std::size_t>(size));
  gathered.cards[static_cast<std::size_t>(gathered.rank)] = mine;
  const std::size_t bytes = gathered.cards.size() * sizeof(SocketCard);

  const device::Stream stream;
  OrAbandoned memory(bytes);
  device::Event done;
  device::copy(memory.data(), gathered.cards.data(), bytes, stream.ref());
  nccl_check(ncclAllReduce(memory.data(), memory.data(), bytes, ncclUint8, ncclSum, comm, cuda::native(stream.ref())),
             "ncclAllReduce", comm);
  await(deadline, [&] { return nccl_finished(comm, "ncclAllReduce"); });
  done.record(stream.ref());
  await(deadline, [&] { return nccl_finished(comm, "ncclAllReduce") && done.done(); });
  device::copy(gathered.cards.data(), memory.data(), bytes, stream.ref());
  device::wait(stream.ref());
  memory.unused();
  return gathered;
}

}  // namespace gradwire
