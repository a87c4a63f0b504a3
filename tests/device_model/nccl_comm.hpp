#pragma once
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "nccl.h"

/// \file The state behind the model of NCCL. The device model's lock guards all of it.
namespace nccl_model {

[[nodiscard]] std::size_t bytes_of(ncclDataType_t type);

struct Message {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  std::size_t bytes = 0;
  int peer = 0;
  bool is_send = false;
  bool is_done = false;
};

/// What one rank's kernel of an all-reduce works on.
struct Term {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  std::size_t count = 0;
  ncclDataType_t type = ncclUint8;
  bool has_joined = false;
};
struct Reduction {
  std::vector<Term> terms;
  std::size_t joined = 0;
  bool is_done = false;
};

/// Ranks that have met, or are still meeting.
struct Clique {
  int ranks = 0;
  std::set<int> come;
  std::set<int> devices;         ///< of those that have come
  bool shares_a_device = false;  ///< some do, which NCCL refuses
  std::set<int> finalized;
  std::set<std::pair<int, int>> wants;  ///< (rank, peer) that rank has asked to be connected to
  std::set<int> wants_collectives;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Message>>> sends;  ///< by (from, to), of kernels that run
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Message>>> recvs;
  std::vector<std::shared_ptr<Reduction>> reductions;  ///< in the order in which they have started
  std::vector<std::size_t> started;                    ///< of each rank, how many
  struct Split {
    std::map<int, std::pair<int, int>> colors;  ///< color and key, by rank
    std::map<int, std::shared_ptr<Clique>> made;
  };
  std::deque<Split> splits;
  std::vector<std::size_t> split_calls;  ///< of each rank
};

struct Kernel;

/// One rank's communicator: outlives its handle, as kernels name it.
struct Comm {
  std::shared_ptr<Clique> clique;
  int rank = 0;
  int device = 0;
  bool is_blocking = true;
  bool is_aborted = false;
  bool is_finalizing = false;
  std::shared_ptr<Kernel> launching;  ///< waits for connections
  // A split that is under way, on the parent and on the child
  std::shared_ptr<Clique> split_clique;
  std::size_t split_index = 0;
  int split_rank = 0;
  bool is_splitting = false;
  ncclComm_t* split_result = nullptr;  ///< of a parent: where the child goes once the parent has finished
  ncclComm_t split_child = nullptr;
  std::string last_error;
};

/// One launch: the messages of a group, or an all-reduce.
struct Kernel {
  std::shared_ptr<Comm> comm;
  cudaStream_t stream = nullptr;
  std::vector<std::shared_ptr<Message>> messages;
  Term term;
  bool is_reduction = false;
  bool has_started = false;
  std::shared_ptr<Reduction> reduction;

  /// On the device: true once it has ended.
  bool run();
  [[nodiscard]] bool is_connected() const;
  void ask_for_connections() const;
  void withdraw() const;
};

}  // namespace nccl_model

struct ncclComm {
  std::shared_ptr<nccl_model::Comm> state;
};
