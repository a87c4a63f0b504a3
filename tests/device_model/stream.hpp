#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "device_model/arena.hpp"
#include "device_model/model.hpp"

namespace device_model {

/// Brings what it reads and writes into reach by itself, and has done so with the lock held.
using Action = std::function<bool()>;

/// What a stream holds outlives it, as events name it.
struct Queue {
  int device = 0;
  bool is_blocking = false;  ///< what it holds and what the legacy default stream holds are in one order
  std::deque<Action> actions;
  std::uint64_t enqueued = 0;
  std::uint64_t executed = 0;
  bool is_executing = false;
};

struct Graph {
  int device = 0;
  std::vector<Action> actions;
  bool is_spoilt = false;
};

/// All devices, and the lock of what they have.
struct Devices {
  explicit Devices(int devices);
  std::recursive_mutex mutex;
  Arena arena;
  std::map<const std::byte*, std::size_t> pinned;
  std::map<const std::byte*, std::size_t> pooled;  ///< memory in a stream's order, which peers do not reach
  Counters counters;
  int captures = 0;                                                       ///< streams that are being captured
  std::vector<std::unique_ptr<CUstream_st>> legacy;                       ///< the legacy default stream of each
  std::map<std::pair<int, int>, std::unique_ptr<CUstream_st>> of_thread;  ///< by thread and device
  std::vector<std::weak_ptr<Queue>> blocking;
};
Devices& devices();

/// With the lock held: the stream behind a handle; for a default stream the calling thread's device's, as it stands.
/// Null for the handle 0.
[[nodiscard]] CUstream_st* resolve(cudaStream_t stream);

/// As far as it goes, which may be nowhere; true once `ticket` actions are done.
bool advance_to(Queue& queue, std::uint64_t ticket);
/// Until they are done, giving other threads their turn meanwhile.
void wait_for(const std::shared_ptr<Queue>& queue, std::uint64_t ticket);

}  // namespace device_model

struct CUstream_st {
  std::shared_ptr<device_model::Queue> queue;
  std::shared_ptr<device_model::Graph> capture{};
};
struct CUevent_st {
  int device = 0;
  std::shared_ptr<device_model::Queue> queue{};  ///< null before it is recorded
  std::uint64_t ticket = 0;
};
struct CUgraph_st {
  std::shared_ptr<device_model::Graph> graph;
};
struct CUgraphExec_st {
  int device = 0;
  std::vector<device_model::Action> actions;
};
struct CUmemPool_st {
  int device = 0;
};
