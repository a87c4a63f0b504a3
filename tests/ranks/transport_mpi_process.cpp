// A program without MPI calls of its own where the argument wants none: what becomes of the process as a whole.
//   finalise     gradwire initialises MPI and finalises it at exit
//   level        MPI initialised too low: make_mpi names both levels and the remedies; the caller's mode works
//   kill         the last rank dies while the others wait for it: the launcher has to end the job
//   leave        the last rank never calls make_mpi: the others get a timeout instead of a hang
//   abort-exit   one rank aborts with large sends outstanding: all ranks still leave through MPI_Finalize
#include <mpi.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "gradwire/error.hpp"
#include "gradwire/mpi.hpp"

namespace {

using namespace gradwire;

Deadline seconds_from_now(int seconds) { return std::chrono::steady_clock::now() + std::chrono::seconds(seconds); }

int complain(const std::string& text) {
  std::fprintf(stderr, "FAILED: %s\n", text.c_str());
  return 1;
}

int finalise() {
  if (!launched_by_mpi()) return complain("launched_by_mpi() is false under the launcher");
  const Communicator comm = make_mpi();
  float value = 1;
  comm.transport()
      .all_reduce_sum({&value, 1, DType::f32, Space::host}, Slot{0}, StreamRef::host())
      .wait(seconds_from_now(60));
  return value == static_cast<float>(comm.size()) ? 0 : complain("a wrong sum");
}

int level() {
  int provided = MPI_THREAD_SINGLE;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  int result = 0;
  if (provided != MPI_THREAD_MULTIPLE) {
    try {
      (void)make_mpi();
      result = complain("make_mpi accepted a thread level that is too low");
    } catch (const Error& error) {
      const std::string_view what = error.what();
      for (const char* const part : {"MPI_THREAD_FUNNELED", "MPI_THREAD_MULTIPLE", "MPI_Init_thread",
                                     "library_thread = false", "MpiThreads::caller"}) {
        if (what.find(part) == std::string_view::npos) result = complain(std::string(what) + " lacks " + part);
      }
      if (error.code() != Errc::unsupported) result = complain("expected Errc::unsupported");
    }
    const Communicator comm = make_mpi({.threads = MpiThreads::caller});
    if (comm.transport().info().any_thread) result = complain("any_thread is true");
    comm.barrier(seconds_from_now(60));
  }
  MPI_Finalize();
  return result;
}

int kill_last() {
  const Communicator comm = make_mpi();
  comm.barrier(seconds_from_now(60));
  const int last = comm.size() - 1;
  if (comm.rank() == last) std::raise(SIGKILL);
  std::byte never{};
  const Recv recv{{&never, 1}, last};
  comm.transport().exchange({}, {&recv, 1}, Slot{0}, StreamRef::host()).wait(seconds_from_now(600));
  return complain("a dead rank has sent a message");
}

int leave() {
  int provided = MPI_THREAD_SINGLE;
  int rank = 0;
  int size = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  int result = 0;
  if (rank != size - 1) {
    try {
      (void)make_mpi();
      result = complain("make_mpi returned without the last rank");
    } catch (const Error& error) {
      if (error.code() != Errc::timeout) result = complain(error.what());
    }
  }
  MPI_Barrier(MPI_COMM_WORLD);
  MPI_Finalize();
  return result;
}

int abort_and_exit() {
  const Communicator comm = make_mpi();
  std::vector<std::byte> unwanted(8u << 20);
  std::vector<Send> sends;
  for (int peer = 0; peer < comm.size(); ++peer) {
    if (peer != comm.rank()) sends.push_back({{unwanted.data(), unwanted.size()}, peer});
  }
  try {  // rank 0 may be through before another rank begins
    const Work work = comm.transport().exchange(sends, {}, Slot{0}, StreamRef::host());
    (void)work.done();
    if (comm.rank() == 0) comm.transport().abort("that will do");
    work.wait(seconds_from_now(60));
  } catch (const Error& error) {
    if (error.code() != Errc::aborted) return complain(error.what());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc == 2 ? argv[1] : "";
  if (what == "finalise") return finalise();
  if (what == "level") return level();
  if (what == "kill") return kill_last();
  if (what == "leave") return leave();
  if (what == "abort-exit") return abort_and_exit();
  return complain("expected one of: finalise level kill leave abort-exit");
}
