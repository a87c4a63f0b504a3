#include "ranks.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

#include "fail.hpp"

#include "gradwire/error.hpp"
#if GRADWIRE_HAVE_MPI
#include "gradwire/mpi.hpp"
#endif

namespace demo {
namespace {

using Body = std::function<void(const gradwire::Communicator&)>;

/// The first failure of this process is the one to show: the others are its echo, or the same again.
class FailureReport {
 public:
  void show(int rank, const char* what) {
    if (!is_shown_.exchange(true)) fmt::print(stderr, "train_fashion_mnist: rank {}: {}\n", rank, what);
  }

 private:
  std::atomic<bool> is_shown_ = false;
};

/// False when `body` failed; the other ranks then fail too instead of waiting for this one.
bool run_rank(const gradwire::Communicator& comm, const Body& body, FailureReport& report) {
  try {
    body(comm);
    return true;
  } catch (const gradwire::Error& error) {
    // aborted: the rank that failed first tells why
    if (error.code() != gradwire::Errc::aborted) report.show(comm.rank(), error.what());
  } catch (const std::exception& error) {
    report.show(comm.rank(), error.what());
  }
  comm.transport().abort("training failed");
  return false;
}

int run_threads(int ranks, const Body& body) {
  const std::vector<gradwire::Communicator> comms = gradwire::make_local(ranks);
  std::atomic<int> failures = 0;
  FailureReport report;
  {
    std::vector<std::jthread> threads;
    for (const gradwire::Communicator& comm : comms) {
      threads.emplace_back([&] { failures += run_rank(comm, body, report) ? 0 : 1; });
    }
  }
  return failures == 0 ? 0 : 1;
}

#if GRADWIRE_HAVE_MPI
int run_process(std::optional<int> ranks, const Body& body) {
  const gradwire::Communicator comm = gradwire::make_mpi();
  FailureReport report;
  const auto checked_body = [&](const gradwire::Communicator& world) {
    require(!ranks || *ranks == world.size(), "--ranks {} contradicts the launcher, which started {} processes",
            ranks.value_or(0), world.size());
    body(world);
  };
  if (run_rank(comm, checked_body, report)) return 0;
  std::fflush(nullptr);
  std::_Exit(1);  // not by way of MPI_Finalize, which could wait for the other ranks: the launcher ends them
}
#endif

}  // namespace

int run_ranks(std::optional<int> ranks, const Body& body) {
#if GRADWIRE_HAVE_MPI
  if (gradwire::launched_by_mpi()) return run_process(ranks, body);
#else
  for (const char* const variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"}) {
    require(std::getenv(variable) == nullptr,
            "started by an MPI launcher ({} is set), and this gradwire was built without MPI", variable);
  }
#endif
  return run_threads(ranks.value_or(4), body);
}

}  // namespace demo
