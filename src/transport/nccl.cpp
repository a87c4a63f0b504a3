#include "gradwire/nccl.hpp"

#include <algorithm>
#include <cstring>

#include "base/deadline.hpp"
#include "base/device.hpp"
#include "base/env.hpp"
#include "base/fail.hpp"
#include "transport/nccl_endpoint.hpp"
#include "transport/nccl_gather.hpp"
#include "transport/nccl_session.hpp"
#include "transport/pool.hpp"
#include "transport/socket_mesh.hpp"

namespace gradwire {
namespace {

constexpr std::string_view kUser = "an NCCL transport";

static_assert(sizeof(NcclUniqueId) == sizeof(ncclUniqueId));

class NcclTransport final : public Transport {
 public:
  NcclTransport(std::shared_ptr<NcclEndpoint> endpoint, TransportInfo info)
      : endpoint_(std::move(endpoint)), info_(std::move(info)) {}
  ~NcclTransport() override { endpoint_->close(); }

  [[nodiscard]] const TransportInfo& info() const noexcept override { return info_; }
  [[nodiscard]] bool reaches(Space) const noexcept override { return true; }

  [[nodiscard]] Work exchange(std::span<const Send> sends, std::span<const Recv> recvs, Slot slot,
                              StreamRef stream) override {
    bool on_host = stream.is_host();
    for (const Send& send : sends) on_host &= check_message(send.to, send.bytes.space);
    for (const Recv& recv : recvs) on_host &= check_message(recv.from, recv.bytes.space);
    if (on_host) return host().exchange(sends, recvs, slot, stream);
    check_slot(slot);
    return start(NcclOperation::Kind::exchange, slot, stream,
                 [&](NcclOperation& operation) { operation.set_exchange(sends, recvs); });
  }

  [[nodiscard]] Work all_reduce_sum(Tensor inout, Slot slot, StreamRef stream) override {
    if (inout.space == Space::host) return host().all_reduce_sum(inout, slot, StreamRef::host());
    check_slot(slot);
    return start(NcclOperation::Kind::all_reduce, slot, stream,
                 [&](NcclOperation& operation) { operation.set_all_reduce(inout); });
  }

  void progress() override { endpoint_->progress(); }
  void abort(std::string_view why) noexcept override { endpoint_->abort(why); }

 private:
  [[nodiscard]] Transport& host() const noexcept { return endpoint_->host().transport(); }

  /// Begun and posted under one lock, so that the order on the host channel is the order on the device.
  template <class Set>
  Work start(NcclOperation::Kind kind, Slot slot, StreamRef stream, Set&& set) {
    const device::Scope scope(endpoint_->device());
    std::shared_ptr<NcclOperation> operation = pool_.acquire();
    const std::lock_guard lock(endpoint_->mutex());
    try {
      operation->begin(endpoint_, kind, slot, stream);
      set(*operation);
      endpoint_->post(operation);
    } catch (const Error& error) {
      operation->fail_with(error);
    }
    return Work(std::move(operation));
  }

  bool check_message(int peer, Space space) const {
    require(peer >= 0 && peer < info_.size && peer != info_.rank,
            "rank {} cannot exchange with rank {}: expected another rank from 0 to {}", info_.rank, peer,
            info_.size - 1);
    return space == Space::host;
  }
  static void check_slot(Slot slot) {
    require(slot <= Slot{kMaxSlot}, "slot {}: expected at most {}", static_cast<std::uint32_t>(slot), kMaxSlot);
  }

  std::shared_ptr<NcclEndpoint> endpoint_;
  TransportInfo info_;
  Pool<NcclOperation> pool_;
};

std::string_view name(NcclBetween between) { return between == NcclBetween::nccl ? "nccl" : "host"; }

/// The rank's device, or throws Errc::device.
int pick_device(const NcclOptions& options) {
  const std::string problem = cuda::device_problem();
  if (!problem.empty()) fail(Errc::device, "make_nccl: no CUDA device can be used: {}", problem);
  int device = options.device;
  if (device < 0) cuda::check(cudaGetDevice(&device), "cudaGetDevice");
  int devices = 0;
  cuda::check(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
  require(device < devices, "NcclOptions::device={}: this process has {} CUDA devices", device, devices);
  return device;
}

/// Every rank learns of a rank without a device before any of them waits in NCCL.
int agree_on_start(const Communicator& host, const NcclOptions& options, Deadline deadline) {
  std::string problem;
  int device = 0;
  try {
    device = pick_device(options);
  } catch (const Error& error) {
    problem = error.what();
  }
  const bool verify = options.verify || environment().check;
  host.agree({{{"NCCL on every rank", problem.empty() ? "ready" : problem},
               {"NCCL's version", nccl_version()},
               {"NcclOptions::between_nodes", std::string(name(options.between_nodes))},
               {"NcclOptions::verify", verify ? "yes" : "no"},
               {"NcclOptions::comm", options.comm == nullptr ? "none" : "given"}}},
             deadline);
  if (!problem.empty()) throw Error(Errc::device, problem);
  return device;
}

/// Ranks that NCCL connects with one another, and this rank's place among them.
struct Group {
  int color = 0;
  std::vector<int> ranks;
  int place = 0;
};

Group group_of(const Communicator& host, NcclBetween between) {
  const std::vector<int>& nodes = host.transport().info().nodes;
  const auto node = [&](int rank) {
    return between == NcclBetween::nccl || nodes.empty() ? 0 : nodes[static_cast<std::size_t>(rank)];
  };
  Group group;
  group.color = node(host.rank());
  for (int rank = 0; rank < host.size(); ++rank) {
    if (node(rank) != group.color) continue;
    if (rank == host.rank()) group.place = static_cast<int>(group.ranks.size());
    group.ranks.push_back(rank);
  }
  return group;
}

/// The group's first rank makes the id and sends it to the others.
ncclUniqueId share_unique_id(const Communicator& host, const Group& group, Deadline deadline) {
  ncclUniqueId id{};
  const Bytes bytes{reinterpret_cast<std::byte*>(&id), sizeof id};
  std::vector<Send> sends;
  std::vector<Recv> recvs;
  if (group.place == 0) {
    nccl_check(ncclGetUniqueId(&id), "ncclGetUniqueId");
    for (const int rank : group.ranks) {
      if (rank != host.rank()) sends.push_back({bytes, rank});
    }
  } else {
    recvs.push_back({bytes, group.ranks[0]});
  }
  host.transport().exchange(sends, recvs, kAgreementSlot, StreamRef::host()).wait(deadline);
  return id;
}

NcclComm connect(const Communicator& host, const NcclOptions& options, const Group& group, Deadline deadline) {
  const NcclPatience patience{deadline, [&host] {
                                host.transport().progress();
                                (void)host.transport().exchange({}, {}, kAgreementSlot, StreamRef::host()).done();
                              }};
  if (options.comm != nullptr) return nccl_split(static_cast<ncclComm_t>(options.comm), group.color, patience);
  const auto size = static_cast<int>(group.ranks.size());
  if (size == 1) return nullptr;
  return nccl_connect(share_unique_id(host, group, deadline), group.place, size, patience);
}

void check_given(const NcclOptions& options, int rank, int size) {
  auto* const given = static_cast<ncclComm_t>(options.comm);
  int count = 0;
  int place = 0;
  nccl_check(ncclCommCount(given, &count), "ncclCommCount", given);
  nccl_check(ncclCommUserRank(given, &place), "ncclCommUserRank", given);
  require(count == size && place == rank,
          "NcclOptions::comm: this is rank {} of {} there, but rank {} of {} of the other communicator", place, count,
          rank, size);
}

/// Ranks that are left waiting hear of a failure through `host`.
template <class Action>
auto or_abort(const Communicator& host, Action&& action) {
  try {
    return action();
  } catch (const Error& error) {
    if (error.code() != Errc::aborted) host.transport().abort(error.what());
    throw;
  }
}

/// What connects this rank with others.
struct Channels {
  Communicator host;
  std::shared_ptr<void> claim;  ///< on `host`
  NcclComm comm;                ///< of `group`
  Group group;
};

Communicator make(Channels channels, int device, const NcclOptions& options) {
  const Communicator& host = channels.host;
  NcclEndpointOptions endpoint_options{
      .comm = std::move(channels.comm),
      .device = device,
      .verify = options.verify || environment().check,
      .nccl_ranks = std::vector<int>(static_cast<std::size_t>(host.size()), -1),
      .claim = std::move(channels.claim),
  };
  for (std::size_t place = 0; place < channels.group.ranks.size(); ++place) {
    endpoint_options.nccl_ranks[static_cast<std::size_t>(channels.group.ranks[place])] = static_cast<int>(place);
  }
  const auto endpoint = std::make_shared<NcclEndpoint>(host, std::move(endpoint_options));
  endpoint->start();
  const TransportInfo& below = host.transport().info();
  TransportInfo info = below;
  info.name = "nccl";
  info.stream_ordered = true;
  info.detail =
      fmt::format("{}, device {}, {} between nodes, host messages over {} ({})", nccl_version(), device,
                  options.between_nodes == NcclBetween::nccl ? "NCCL" : "the host channel", below.name, below.detail);
  const Communicator made(std::make_shared<NcclTransport>(endpoint, std::move(info)));
  return environment().check ? make_checked(made) : made;
}

/// Over TCP, between the ranks of `comm`.
Communicator make_over_sockets(NcclComm comm, int device, const NcclOptions& options, Deadline deadline) {
  SocketListener listener;
  const NcclGathered gathered = nccl_gather(comm.get(), listener.card(), deadline);
  const Communicator host = make_socket_mesh(std::move(listener), gathered.rank, gathered.cards, deadline);
  std::shared_ptr<void> claim = host.claim(kUser);
  host.agree({{{"NCCL's version", nccl_version()},
               {"NcclOptions::between_nodes", std::string(name(options.between_nodes))},
               {"NcclOptions::verify", options.verify || environment().check ? "yes" : "no"}}},
             deadline);
  Group group = group_of(host, options.between_nodes);
  if (static_cast<int>(group.ranks.size()) < host.size()) {
    NcclOptions of_all = options;
    of_all.comm = comm.get();
    NcclComm of_node = or_abort(host, [&] { return connect(host, of_all, group, deadline); });
    nccl_retire(std::exchange(comm, std::move(of_node)), {deadline, nullptr});
  }
  return make({host, std::move(claim), std::move(comm), std::move(group)}, device, options);
}

}  // namespace

Communicator make_nccl(const Communicator& host, const NcclOptions& options) {
  const Deadline deadline = deadline_after(environment().timeout);
  std::shared_ptr<void> claim = host.claim(kUser);
  const int device = agree_on_start(host, options, deadline);
  const device::Scope scope(device);
  if (options.comm != nullptr) check_given(options, host.rank(), host.size());
  Group group = group_of(host, options.between_nodes);
  NcclComm comm = or_abort(host, [&] { return connect(host, options, group, deadline); });
  return make({host, std::move(claim), std::move(comm), std::move(group)}, device, options);
}

NcclUniqueId nccl_unique_id() {
  ncclUniqueId id;
  nccl_check(ncclGetUniqueId(&id), "ncclGetUniqueId");
  NcclUniqueId bytes;
  std::memcpy(bytes.data(), &id, sizeof id);
  return bytes;
}

Communicator make_nccl(const NcclUniqueId& unique_id, int rank, int size, const NcclOptions& options) {
  require(rank >= 0 && rank < size, "make_nccl: rank {} of {}: expected a rank from 0 to size - 1", rank, size);
  require(options.comm == nullptr, "make_nccl: NcclOptions::comm and a unique id exclude each other");
  const Deadline deadline = deadline_after(environment().timeout);
  const int device = pick_device(options);
  const device::Scope scope(device);
  ncclUniqueId id;
  std::memcpy(&id, unique_id.data(), sizeof id);
  return make_over_sockets(nccl_connect(id, rank, size, {deadline, nullptr}), device, options, deadline);
}

Communicator make_nccl(const NcclOptions& options) {
  require(options.comm != nullptr, "make_nccl: without another communicator or a unique id it takes NcclOptions::comm");
  const Deadline deadline = deadline_after(environment().timeout);
  const int device = pick_device(options);
  const device::Scope scope(device);
  NcclComm comm = nccl_split(static_cast<ncclComm_t>(options.comm), 0, {deadline, nullptr});
  return make_over_sockets(std::move(comm), device, options, deadline);
}

}  // namespace gradwire
