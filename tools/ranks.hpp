#pragma once
#include <cstddef>
#include <cstring>
#include <functional>
#include <span>
#include <type_traits>
#include <vector>

#include "transfer_buffer.hpp"

#include "gradwire/transport.hpp"

namespace gradwire::tools {

/// Whether an MPI launcher started this process, so that it is one rank of several.
/// Throws Errc::unsupported when one did and this build has no MPI.
[[nodiscard]] bool under_mpi();

/// Runs `body` once per rank and returns when all are done: as `threads` threads over the local transport, or, under an
/// MPI launcher, as this process's rank over MPI. A failure on any rank ends all of them: threads are joined and the
/// first failure is thrown with its rank in the message; an MPI process prints it and ends with exit code 1, upon
/// which the launcher ends the others.
void run_ranks(int threads, const std::function<void(const Communicator&)>& body);

/// Collective: rank 0 gets everyone's `mine`, of one size on all ranks, end to end in rank order in `all`
/// (ranks x mine.size bytes). Other ranks pass an empty `all`. Both should be of TransferBuffers.
void gather(const Communicator& comm, ConstBytes mine, Bytes all, Deadline deadline);

/// The same for a few trivially copyable values; rank 0 gets them all, the others nothing.
template <class T>
[[nodiscard]] std::vector<T> gather_values(const Communicator& comm, std::span<const T> mine, Deadline deadline) {
  static_assert(std::is_trivially_copyable_v<T>);
  const std::size_t count = comm.rank() == 0 ? mine.size() * static_cast<std::size_t>(comm.size()) : 0;
  const TransferBuffer sent(mine.size_bytes());
  const TransferBuffer gathered(count * sizeof(T));
  if (!mine.empty()) std::memcpy(sent->data(), mine.data(), mine.size_bytes());
  gather(comm, sent->bytes(), gathered->bytes(), deadline);
  std::vector<T> all(count);
  if (count > 0) std::memcpy(all.data(), gathered->data(), count * sizeof(T));
  return all;
}

}  // namespace gradwire::tools
