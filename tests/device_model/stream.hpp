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

using Action = std::function<bool()>;

/// What a stream holds outlives it, as events name it.
struct Queue {
  std::deque<Action> actions;
  std::uint64_t enqueued = 0;
  std::uint64_t executed = 0;
  bool is_executing = false;
};

struct Graph {
  std::vector<Action> actions;
  bool is_spoilt = false;
};

/// The one device, and the lock of all that it has.
struct Device {
  std::recursive_mutex mutex;
  Arena arena;
  std::map<const std::byte*, std::size_t> pinned;
  std::map<const std::byte*, std::size_t> pooled;  ///< memory in a stream's order, which peers do not reach
  Counters counters;
  int captures = 0;  ///< streams that are being captured
};
Device& device();

/// Executes what comes next; false where it has to wait, or where there is nothing.
bool step(Queue& queue);
/// As far as it goes; true once `ticket` actions are done.
bool advance_to(Queue& queue, std::uint64_t ticket);
/// Until they are done, giving other threads their turn meanwhile.
void wait_for(const std::shared_ptr<Queue>& queue, std::uint64_t ticket);

}  // namespace device_model

struct CUstream_st {
  std::shared_ptr<device_model::Queue> queue = std::make_shared<device_model::Queue>();
  std::shared_ptr<device_model::Graph> capture;
};
struct CUevent_st {
  std::shared_ptr<device_model::Queue> queue;  ///< null before it is recorded
  std::uint64_t ticket = 0;
};
struct CUgraph_st {
  std::shared_ptr<device_model::Graph> graph;
};
struct CUgraphExec_st {
  std::vector<device_model::Action> actions;
};
