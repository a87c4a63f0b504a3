#include "device_model/nccl_model.hpp"

#include <algorithm>
#include <cstring>
#include <thread>

#include "device_model/nccl_comm.hpp"
#include "device_model/stream.hpp"

namespace nccl_model {
namespace {

using device_model::devices;
using Lock = std::lock_guard<std::recursive_mutex>;

struct Globals {
  std::map<std::string, std::shared_ptr<Clique>> cliques;  // by unique id
  int next_id = 1;
  std::map<int, ncclResult_t> errors;
  std::chrono::milliseconds abort_time{0};
  int communicators = 0;
  int aborts = 0;
};
Globals& globals() {
  static auto* const instance = new Globals;
  return *instance;
}

/// What one thread has collected since ncclGroupStart.
struct Group {
  int depth = 0;
  std::vector<std::shared_ptr<Kernel>> kernels;
  ncclResult_t error = ncclSuccess;
};
thread_local Group t_group;

ncclResult_t refuse(Comm& comm, ncclResult_t code, const char* why) {
  comm.last_error = why;
  return code;
}

bool is_meeting(const Comm& comm) {
  return !comm.clique || comm.clique->come.size() < static_cast<std::size_t>(comm.clique->ranks);
}

/// Moves what was asked of a communicator; true while it has not finished.
bool is_in_progress(const std::shared_ptr<Comm>& comm) {
  if (comm->split_clique && !comm->clique) {  // the child of a split that is not complete
    const Clique::Split& split = comm->split_clique->splits[comm->split_index];
    if (split.made.empty()) return true;
    const auto [color, key] = split.colors.at(comm->split_rank);
    int place = 0;
    for (const auto& [rank, other] : split.colors) {
      if (other.first == color && std::pair(other.second, rank) < std::pair(key, comm->split_rank)) ++place;
    }
    comm->rank = place;
    comm->clique = split.made.at(color);
    comm->clique->come.insert(place);
  }
  if (is_meeting(*comm)) return true;
  if (comm->is_splitting) {
    if (comm->clique->splits[comm->split_index].made.empty()) return true;
    comm->is_splitting = false;
    *comm->split_result = comm->split_child;
  }
  if (comm->launching) {
    if (!comm->launching->is_connected()) return true;
    const std::shared_ptr<Kernel> kernel = std::exchange(comm->launching, nullptr);
    (void)device_model::enqueue_until(kernel->stream, [kernel] { return kernel->run(); });
  }
  return comm->is_finalizing && comm->clique->finalized.size() < static_cast<std::size_t>(comm->clique->ranks);
}

bool is_refused(const Comm& comm) { return comm.clique && comm.clique->shares_a_device; }

ncclResult_t finish(const std::shared_ptr<Comm>& comm, bool is_blocking) {
  while (true) {
    {
      const Lock lock(devices().mutex);
      if (comm->is_aborted) return ncclInvalidUsage;  // in the middle of a blocking call
      if (is_refused(*comm)) return refuse(*comm, ncclInvalidUsage, "Duplicate GPU detected");
      if (!is_in_progress(comm)) return ncclSuccess;
    }
    if (!is_blocking) return ncclInProgress;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

ncclResult_t launch(const std::shared_ptr<Kernel>& kernel) {
  Comm& comm = *kernel->comm;
  const Lock lock(devices().mutex);
  if (is_in_progress(kernel->comm)) {
    return refuse(comm, ncclInvalidUsage, "a call while the communicator is in progress");
  }
  kernel->ask_for_connections();
  comm.launching = kernel;
  return ncclSuccess;
}

/// Device memory of the communicator's own device, and a stream of it.
bool is_usable(const Comm& comm, const void* data, cudaStream_t stream) {
  const CUstream_st* const found = device_model::resolve(stream);
  return device_model::is_open_to_peers(data) && devices().arena.device_of(data) == comm.device && found != nullptr &&
         found->queue->device == comm.device;
}
constexpr const char* kUnusable =
    "not device memory that peers may reach, or not a stream, of the communicator's device";

ncclResult_t add_message(const Message& message, ncclComm_t handle, cudaStream_t stream) {
  Comm& comm = *handle->state;
  const void* const data = message.is_send ? static_cast<const void*>(message.from) : message.to;
  const Lock lock(devices().mutex);
  if (comm.clique == nullptr) return refuse(comm, ncclInvalidUsage, "a call while the communicator is in progress");
  if (message.peer < 0 || message.peer >= comm.clique->ranks || message.peer == comm.rank) {
    return t_group.error = refuse(comm, ncclInvalidArgument, "not a peer's rank");
  }
  if (!is_usable(comm, data, stream)) return t_group.error = refuse(comm, ncclInvalidArgument, kUnusable);
  auto& kernels = t_group.kernels;
  const auto same = [&](const auto& kernel) { return kernel->comm == handle->state && !kernel->is_reduction; };
  auto found = std::find_if(kernels.begin(), kernels.end(), same);
  if (found == kernels.end()) {
    found = kernels.insert(kernels.end(), std::make_shared<Kernel>());
    (*found)->comm = handle->state;
    (*found)->stream = stream;
  }
  if ((*found)->stream != stream) return t_group.error = ncclInvalidUsage;
  (*found)->messages.push_back(std::make_shared<Message>(message));
  return ncclSuccess;
}

template <class Action>
ncclResult_t in_group(Action&& action) {
  (void)ncclGroupStart();
  const ncclResult_t code = action();
  const ncclResult_t end = ncclGroupEnd();
  return code != ncclSuccess ? code : end;
}

void complete(Clique::Split& split) {
  for (const auto& each : split.colors) {
    auto& made = split.made[each.second.first];
    if (!made) made = std::make_shared<Clique>();
    ++made->ranks;
  }
}

}  // namespace

void report_error(int rank, ncclResult_t error) {
  const Lock lock(devices().mutex);
  globals().errors[rank] = error;
}
void set_abort_time(std::chrono::milliseconds time) {
  const Lock lock(devices().mutex);
  globals().abort_time = time;
}
int communicators() {
  const Lock lock(devices().mutex);
  return globals().communicators;
}
int aborts() {
  const Lock lock(devices().mutex);
  return globals().aborts;
}

}  // namespace nccl_model

using namespace nccl_model;  // NOLINT: the functions below are its face

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const Lock lock(devices().mutex);
  *id = {};
  const std::string text = "model " + std::to_string(globals().next_id++);
  std::memcpy(id->internal, text.c_str(), text.size());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  return ncclCommInitRankConfig(comm, ranks, id, rank, nullptr);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (ranks < 1 || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  const auto state = std::make_shared<Comm>();
  {
    const Lock lock(devices().mutex);
    auto& clique = globals().cliques[std::string(id.internal, sizeof id.internal)];
    if (!clique) clique = std::make_shared<Clique>();
    if (clique->ranks == 0) clique->ranks = ranks;
    if (clique->ranks != ranks || !clique->come.insert(rank).second) return ncclInvalidUsage;
    clique->shares_a_device |= !clique->devices.insert(device_model::current_device()).second;
    state->clique = clique;
    state->rank = rank;
    state->device = device_model::current_device();
    state->is_blocking = config == nullptr || config->blocking != 0;
    *comm = new ncclComm{state};
    ++globals().communicators;
  }
  return finish(state, state->is_blocking);
}

ncclResult_t ncclCommSplit(ncclComm_t parent, int color, int key, ncclComm_t* made, ncclConfig_t* config) {
  const auto child = std::make_shared<Comm>();
  const std::shared_ptr<Comm> state = parent->state;
  {
    const Lock lock(devices().mutex);
    if (is_in_progress(state)) return refuse(*state, ncclInvalidUsage, "a split while the communicator is in progress");
    Clique& clique = *state->clique;
    clique.split_calls.resize(static_cast<std::size_t>(clique.ranks));
    const std::size_t index = clique.split_calls[static_cast<std::size_t>(state->rank)]++;
    if (index == clique.splits.size()) clique.splits.emplace_back();
    Clique::Split& split = clique.splits[index];
    split.colors[state->rank] = {color, key};
    if (split.colors.size() == static_cast<std::size_t>(clique.ranks)) complete(split);
    child->is_blocking = config == nullptr || config->blocking != 0;
    child->device = state->device;
    child->split_clique = state->clique;
    child->split_index = state->split_index = index;
    child->split_rank = state->rank;
    state->is_splitting = true;
    *made = nullptr;
    state->split_result = made;
    state->split_child = new ncclComm{child};
    ++globals().communicators;
  }
  return finish(state, state->is_blocking);
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  {
    const Lock lock(devices().mutex);
    if (is_in_progress(comm->state)) return refuse(*comm->state, ncclInvalidUsage, "finalized while in progress");
    comm->state->is_finalizing = true;
    comm->state->clique->finalized.insert(comm->state->rank);
  }
  return finish(comm->state, comm->state->is_blocking);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  const Lock lock(devices().mutex);
  --globals().communicators;
  comm->state->is_aborted = true;  // what still runs would be the caller's mistake
  comm->state->launching = nullptr;
  if (comm->state->is_splitting) delete comm->state->split_child;  // nobody has got it
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  std::chrono::milliseconds time{0};
  {
    const Lock lock(devices().mutex);
    ++globals().aborts;
    time = globals().abort_time;
  }
  std::this_thread::sleep_for(time);
  return ncclCommDestroy(comm);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  const Lock lock(devices().mutex);
  *error = is_refused(*comm->state)      ? refuse(*comm->state, ncclInvalidUsage, "Duplicate GPU detected")
           : is_in_progress(comm->state) ? ncclInProgress
                                         : ncclSuccess;
  const auto found = globals().errors.find(comm->state->rank);
  if (found != globals().errors.end() && found->second != ncclSuccess) {
    *error = found->second;
    comm->state->last_error = "reported by the test";
  }
  return ncclSuccess;
}

ncclResult_t ncclCommCount(ncclComm_t comm, int* count) {
  const Lock lock(devices().mutex);
  *count = comm->state->clique->ranks;
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(ncclComm_t comm, int* rank) {
  const Lock lock(devices().mutex);
  *rank = comm->state->rank;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error";
    case ncclSystemError: return "unhandled system error";
    case ncclInternalError: return "internal error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "NCCL operation in progress";
  }
  return "unknown result code";
}

const char* ncclGetLastError(ncclComm_t comm) { return comm == nullptr ? "" : comm->state->last_error.c_str(); }

ncclResult_t ncclGroupStart() {
  ++t_group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (t_group.depth == 0) return ncclInvalidUsage;
  if (--t_group.depth > 0) return ncclSuccess;
  Group group = std::exchange(t_group, {});
  if (group.error != ncclSuccess) return group.error;
  ncclResult_t result = ncclSuccess;
  for (const auto& kernel : group.kernels) {
    if (const ncclResult_t code = launch(kernel); code != ncclSuccess) return code;
    if (const ncclResult_t code = finish(kernel->comm, kernel->comm->is_blocking); code != ncclSuccess) result = code;
  }
  return result;
}

ncclResult_t ncclSend(const void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return in_group([&] {
    return add_message({static_cast<const std::byte*>(data), nullptr, count * bytes_of(type), peer, true}, comm,
                       stream);
  });
}

ncclResult_t ncclRecv(void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return in_group([&] {
    return add_message({nullptr, static_cast<std::byte*>(data), count * bytes_of(type), peer}, comm, stream);
  });
}

ncclResult_t ncclAllReduce(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t,
                           ncclComm_t comm, cudaStream_t stream) {
  return in_group([&] {
    const Lock lock(devices().mutex);
    if (!is_usable(*comm->state, from, stream) || !is_usable(*comm->state, to, stream)) {
      return t_group.error = refuse(*comm->state, ncclInvalidArgument, kUnusable);
    }
    const auto kernel = std::make_shared<Kernel>();
    kernel->comm = comm->state;
    kernel->stream = stream;
    kernel->is_reduction = true;
    kernel->term = {static_cast<const std::byte*>(from), static_cast<std::byte*>(to), count, type, true};
    t_group.kernels.push_back(kernel);
    return ncclSuccess;
  });
}
