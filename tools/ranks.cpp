#include "ranks.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "base/fail.hpp"
#include "command.hpp"
#if GRADWIRE_HAVE_MPI
#include "gradwire/mpi.hpp"
#endif

namespace gradwire::tools {
namespace {

constexpr Slot kGatherSlot{kMaxSlot};

[[noreturn]] void rethrow_with_rank(const std::exception_ptr& failure, int rank) {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    fail(error.code(), "rank {}: {}", rank, error.what());
  }
}

bool is_echo(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    return error.code() == Errc::aborted;
  } catch (...) {
    return false;
  }
}

/// The failure that came first, not counting echoes: ranks that another's abort woke up.
class FirstFailure {
 public:
  void record(int rank, const std::exception_ptr& failure) {
    const std::lock_guard lock(mutex_);
    if (failure_ != nullptr && (is_echo(failure) || !is_echo(failure_))) return;
    failure_ = failure;
    rank_ = rank;
  }
  void rethrow() const {
    if (failure_ != nullptr) rethrow_with_rank(failure_, rank_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr failure_;
  int rank_ = 0;
};

void run_local(int threads, const std::function<void(const Communicator&)>& body) {
  FirstFailure first;
  {
    const std::vector<Communicator> communicators = make_local(threads);
    std::vector<std::jthread> running;
    running.reserve(communicators.size());
    for (const Communicator& comm : communicators) {
      running.emplace_back([&comm, &body, &first] {
        try {
          body(comm);
        } catch (...) {
          first.record(comm.rank(), std::current_exception());
          comm.transport().abort(fmt::format("rank {} failed", comm.rank()));
        }
      });
    }
  }
  first.rethrow();
}

#if GRADWIRE_HAVE_MPI
/// An echo comes late, so that the rank that failed speaks first; by then the launcher has usually ended this one.
void report(const std::exception_ptr& failure, int rank) {
  if (is_echo(failure)) std::this_thread::sleep_for(std::chrono::seconds(1));
  try {
    rethrow_with_rank(failure, rank);
  } catch (...) {
    static_cast<void>(report_failure(std::current_exception()));
  }
}

void run_mpi(const std::function<void(const Communicator&)>& body) {
  const Communicator comm = make_mpi({.threads = MpiThreads::caller});
  try {
    body(comm);
    return;
  } catch (...) {
    report(std::current_exception(), comm.rank());
  }
  comm.transport().abort(fmt::format("rank {} failed", comm.rank()));
  // Leaving without MPI_Finalize, which could wait for the others: the launcher sees it and ends them.
  std::fflush(stdout);
  std::_Exit(kExitFailed);
}
#endif

}  // namespace

#if GRADWIRE_HAVE_MPI
bool under_mpi() { return launched_by_mpi(); }
#else
bool under_mpi() {
  for (const char* const variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"}) {
    if (std::getenv(variable) == nullptr) continue;
    fail(Errc::unsupported, "started by an MPI launcher ({} is set), and this gradwire was built without MPI",
         variable);
  }
  return false;
}
#endif

void run_ranks(int threads, const std::function<void(const Communicator&)>& body) {
#if GRADWIRE_HAVE_MPI
  if (under_mpi()) return run_mpi(body);
#endif
  run_local(threads, body);
}

void gather(const Communicator& comm, ConstBytes mine, Bytes all, Deadline deadline) {
  if (mine.size == 0) return;
  if (comm.rank() != 0) {
    const Send send{mine, 0};
    comm.transport().exchange({&send, 1}, {}, kGatherSlot, StreamRef::host()).wait(deadline);
    return;
  }
  std::vector<Recv> receives;
  for (int rank = 1; rank < comm.size(); ++rank) {
    receives.push_back({all.slice(static_cast<std::size_t>(rank) * mine.size, mine.size), rank});
  }
  const Work work = comm.transport().exchange({}, receives, kGatherSlot, StreamRef::host());
  std::memcpy(all.data, mine.data, mine.size);
  work.wait(deadline);
}

}  // namespace gradwire::tools
