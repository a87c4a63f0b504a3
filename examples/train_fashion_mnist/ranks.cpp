#include "ranks.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <string>
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

void report(int rank, const char* what) { fmt::print(stderr, "train_fashion_mnist: rank {}: {}\n", rank, what); }

/// False when `body` failed; the other ranks then fail too instead of waiting for this one.
bool run_rank(const gradwire::Communicator& comm, const Body& body) {
  try {
    body(comm);
    return true;
  } catch (const gradwire::Error& error) {
    // aborted: the rank that failed first has told why
    if (error.code() != gradwire::Errc::aborted) report(comm.rank(), error.what());
  } catch (const std::exception& error) {
    report(comm.rank(), error.what());
  }
  comm.transport().abort("training failed");
  return false;
}

int run_threads(int ranks, const Body& body) {
  const std::vector<gradwire::Communicator> comms = gradwire::make_local(ranks);
  std::vector<char> succeeded(comms.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t r = 0; r < comms.size(); ++r) {
      threads.emplace_back([&, r] { succeeded[r] = run_rank(comms[r], body); });
    }
  }
  return std::find(succeeded.begin(), succeeded.end(), 0) == succeeded.end() ? 0 : 1;
}

#if GRADWIRE_HAVE_MPI
int run_process(std::optional<int> ranks, const Body& body) {
  const gradwire::Communicator comm = gradwire::make_mpi();
  const bool is_success = run_rank(comm, [&](const gradwire::Communicator& world) {
    require(!ranks || *ranks == world.size(), "--ranks {} contradicts the launcher, which started {} processes",
            ranks.value_or(0), world.size());
    body(world);
  });
  if (is_success) return 0;
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
