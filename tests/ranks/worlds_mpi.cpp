// The suites over the MPI job that this process is part of: a new communicator for each test.
#include "ranks/worlds.hpp"

#include "gradwire/mpi.hpp"

namespace gradwire::test {
namespace {

void run_here(const MpiOptions& options, const std::function<void(Communicator&)>& body) {
  Communicator comm = make_mpi(options);
  try {
    body(comm);
  } catch (const std::exception& error) {
    comm.transport().abort(error.what());
    throw;
  }
  if (::testing::Test::HasFatalFailure()) comm.transport().abort("an assertion of the test failed");
}

}  // namespace

std::vector<World> worlds() {
  return {{"mpi", [](const auto& body) { run_here({}, body); }},
          {"mpi_caller", [](const auto& body) { run_here({.threads = MpiThreads::caller}, body); }},
          {"mpi_split", [](const auto& body) { run_here({.max_count = 2003}, body); }}};
}

}  // namespace gradwire::test
