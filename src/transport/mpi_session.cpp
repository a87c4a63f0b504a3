#include "transport/mpi_session.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/backoff.hpp"
#include "base/env.hpp"
#include "base/fail.hpp"
#include "base/log.hpp"

namespace gradwire {
namespace {

std::string_view level_name(int level) {
  switch (level) {
    case MPI_THREAD_SINGLE: return "MPI_THREAD_SINGLE";
    case MPI_THREAD_FUNNELED: return "MPI_THREAD_FUNNELED";
    case MPI_THREAD_SERIALIZED: return "MPI_THREAD_SERIALIZED";
    case MPI_THREAD_MULTIPLE: return "MPI_THREAD_MULTIPLE";
    default: return "an unknown thread level";
  }
}

/// MPI_Comm_free is collective, and a library may make it wait for the other ranks. So a destructor must not call it:
/// the ranks may be elsewhere, dead, or past MPI_Finalize. Duplicates are put down here instead, and the next
/// make_mpi() over the same ranks, which is collective anyway, frees those that every rank has finished with in good
/// order. MPI_Finalize takes the rest.
struct Duplicate {
  MPI_Comm comm;
  bool finished;
};
struct Duplicates {
  std::mutex mutex;
  std::vector<Duplicate> alive;  // in the order of creation, which is the same on all ranks of a communicator
  bool broken = false;           // one was given up with messages on their way, or aborted
};
Duplicates& duplicates() {
  static auto* const instance = new Duplicates;  // a transport may be destroyed by a static destructor
  return *instance;
}

bool same_ranks(MPI_Comm a, MPI_Comm b) {
  int result = MPI_UNEQUAL;
  mpi_check(MPI_Comm_compare(a, b, &result), "MPI_Comm_compare");
  return result == MPI_IDENT || result == MPI_CONGRUENT;
}

/// What MPI works on while ranks meet in make_mpi(); given up when they do not.
struct Meeting {
  MPI_Comm comm = MPI_COMM_NULL;
  std::vector<MPI_Comm> candidates;
  std::vector<int> finished;  // of each candidate: 1 where this rank, then every rank, has finished with it
  MPI_Request request = MPI_REQUEST_NULL;
};

/// make_mpi() blocks, but not for ever: a rank that never calls it must not hang the others.
void await(std::unique_ptr<Meeting>& meeting, std::string_view call) {
  const auto timeout = environment().timeout;
  const Deadline deadline = std::chrono::steady_clock::now() + timeout;
  Backoff backoff;
  for (int done = 0; done == 0; backoff.pause()) {
    mpi_check(MPI_Test(&meeting->request, &done, MPI_STATUS_IGNORE), call);
    if (done == 0 && std::chrono::steady_clock::now() >= deadline) {
      (void)meeting.release();
      fail(Errc::timeout,
           "make_mpi: {} waited {} ms for the other ranks: every rank of the communicator has to call it", call,
           timeout.count());
    }
  }
}

/// Collective over the meeting's communicator, itself not yet among the duplicates.
void free_finished(std::unique_ptr<Meeting>& meeting) {
  Duplicates& all = duplicates();
  {
    const std::lock_guard lock(all.mutex);
    for (const Duplicate& old : all.alive) {
      if (!same_ranks(old.comm, meeting->comm)) continue;
      meeting->candidates.push_back(old.comm);
      meeting->finished.push_back(old.finished ? 1 : 0);
    }
  }
  const auto count = static_cast<int>(meeting->finished.size());
  mpi_check(
      MPI_Iallreduce(MPI_IN_PLACE, meeting->finished.data(), count, MPI_INT, MPI_MIN, meeting->comm, &meeting->request),
      "MPI_Iallreduce");
  await(meeting, "MPI_Iallreduce");
  const std::lock_guard lock(all.mutex);
  for (std::size_t k = 0; k < meeting->candidates.size(); ++k) {
    if (meeting->finished[k] == 0) continue;
    std::erase_if(all.alive, [&](const Duplicate& old) { return old.comm == meeting->candidates[k]; });
    mpi_check(MPI_Comm_free(&meeting->candidates[k]), "MPI_Comm_free");
  }
}

/// MPI_Finalize alone takes that long where ranks share few cores.
constexpr std::chrono::milliseconds kLeastPatience{10'000};

/// MPI_Finalize waits for every rank, for ever. After a failure one of them may be stopped or gone, and then the
/// process ends without it once the usual deadline has passed.
void finalise_at_exit() {
  if (!mpi_usable()) return;
  bool broken = false;
  {
    const std::lock_guard lock(duplicates().mutex);
    broken = duplicates().broken;
  }
  if (broken) {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    std::thread([rank, timeout = std::max(environment().timeout, kLeastPatience)] {
      std::this_thread::sleep_for(timeout);
      log::line(log::Level::error, rank, "MPI_Finalize waited {} ms for ranks that do not come: this process ends",
                timeout.count());
      std::_Exit(EXIT_FAILURE);
    }).detach();
  }
  MPI_Finalize();
}

}  // namespace

std::string mpi_error_text(int code) {
  std::string text(MPI_MAX_ERROR_STRING, '\0');
  int length = 0;
  if (MPI_Error_string(code, text.data(), &length) != MPI_SUCCESS) return fmt::format("MPI error {}", code);
  text.resize(static_cast<std::size_t>(length));
  return text;
}

void mpi_check(int code, std::string_view call) {
  if (code != MPI_SUCCESS) fail(Errc::transport, "{} failed: {}", call, mpi_error_text(code));
}

bool mpi_usable() noexcept {
  int initialised = 0;
  int finalised = 0;
  MPI_Initialized(&initialised);
  MPI_Finalized(&finalised);
  return initialised != 0 && finalised == 0;
}

int mpi_initialise(MpiThreads threads) {
  int initialised = 0;
  int level = MPI_THREAD_SINGLE;
  MPI_Initialized(&initialised);
  if (initialised == 0) {
    const int wanted = threads == MpiThreads::library ? MPI_THREAD_MULTIPLE : MPI_THREAD_FUNNELED;
    mpi_check(MPI_Init_thread(nullptr, nullptr, wanted, &level), "MPI_Init_thread");
    std::atexit(finalise_at_exit);
  } else if (!mpi_usable()) {
    fail(Errc::unsupported, "make_mpi: MPI has already been finalised");
  } else {
    mpi_check(MPI_Query_thread(&level), "MPI_Query_thread");
  }
  if (threads == MpiThreads::library && level != MPI_THREAD_MULTIPLE) {
    fail(Errc::unsupported,
         "make_mpi: {}, and MpiThreads::library needs MPI_THREAD_MULTIPLE. Either call MPI_Init_thread with "
         "MPI_THREAD_MULTIPLE, or keep gradwire off other threads: MpiThreads::caller here and "
         "HookOptions::library_thread = false",
         initialised == 0 ? fmt::format("this MPI library provides at most {}", level_name(level))
                          : fmt::format("MPI was initialised with {}", level_name(level)));
  }
  return level;
}

MPI_Comm mpi_duplicate(MPI_Comm parent) {
  auto meeting = std::make_unique<Meeting>();
  mpi_check(MPI_Comm_idup(parent, &meeting->comm, &meeting->request), "MPI_Comm_idup");
  await(meeting, "MPI_Comm_idup");
  mpi_check(MPI_Comm_set_errhandler(meeting->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  free_finished(meeting);
  const std::lock_guard lock(duplicates().mutex);
  duplicates().alive.push_back({meeting->comm, false});
  return meeting->comm;
}

/// MPI has no split that does not block. All ranks have met in mpi_duplicate() by now, so none is waited for long.
std::vector<int> mpi_nodes(MPI_Comm duplicate) {
  int rank = 0;
  int size = 0;
  mpi_check(MPI_Comm_rank(duplicate, &rank), "MPI_Comm_rank");
  mpi_check(MPI_Comm_size(duplicate, &size), "MPI_Comm_size");
  MPI_Comm node = MPI_COMM_NULL;
  mpi_check(MPI_Comm_split_type(duplicate, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node), "MPI_Comm_split_type");
  int first = rank;  // the node's lowest rank stands for it
  mpi_check(MPI_Bcast(&first, 1, MPI_INT, 0, node), "MPI_Bcast");
  mpi_check(MPI_Comm_free(&node), "MPI_Comm_free");
  std::vector<int> firsts(static_cast<std::size_t>(size));
  mpi_check(MPI_Allgather(&first, 1, MPI_INT, firsts.data(), 1, MPI_INT, duplicate), "MPI_Allgather");
  std::vector<int> nodes;
  int count = 0;
  for (int r = 0; r < size; ++r) {
    const auto lowest = static_cast<std::size_t>(firsts[static_cast<std::size_t>(r)]);
    nodes.push_back(lowest == static_cast<std::size_t>(r) ? count++ : nodes[lowest]);
  }
  return nodes;
}

void mpi_retire(MPI_Comm duplicate, bool clean) noexcept {
  const std::lock_guard lock(duplicates().mutex);
  for (Duplicate& entry : duplicates().alive) {
    if (entry.comm == duplicate) entry.finished = clean;
  }
  duplicates().broken = duplicates().broken || !clean;
}

std::size_t mpi_message_size(MPI_Status status) {
  int count = 0;
  mpi_check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
  if (count != MPI_UNDEFINED) return static_cast<std::size_t>(count);
  MPI_Count large = 0;  // more than an int holds
  mpi_check(MPI_Get_elements_x(&status, MPI_BYTE, &large), "MPI_Get_elements_x");
  return static_cast<std::size_t>(large);
}

MpiMessage::MpiMessage(std::size_t size, std::size_t max_count) : count_(static_cast<int>(size)) {
  if (size <= max_count) return;
  // blocks of max_count bytes, and what remains after the last of them
  const std::size_t blocks = size / max_count;
  const std::size_t rest = size % max_count;
  require(blocks <= max_count, "a message of {} bytes is too long: at most {} bytes", size, max_count * max_count);
  MPI_Datatype block = MPI_DATATYPE_NULL;
  mpi_check(MPI_Type_contiguous(static_cast<int>(max_count), MPI_BYTE, &block), "MPI_Type_contiguous");
  int lengths[2] = {static_cast<int>(blocks), static_cast<int>(rest)};
  MPI_Aint offsets[2] = {0, static_cast<MPI_Aint>(blocks * max_count)};
  MPI_Datatype types[2] = {block, MPI_BYTE};
  mpi_check(MPI_Type_create_struct(2, lengths, offsets, types, &type_), "MPI_Type_create_struct");
  mpi_check(MPI_Type_free(&block), "MPI_Type_free");
  mpi_check(MPI_Type_commit(&type_), "MPI_Type_commit");
  count_ = 1;
}

MpiMessage::~MpiMessage() {
  if (type_ != MPI_BYTE) MPI_Type_free(&type_);
}

}  // namespace gradwire
