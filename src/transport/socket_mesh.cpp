#include "transport/socket_mesh.hpp"

#include <algorithm>

#include "base/env.hpp"
#include "base/fail.hpp"
#include "transport/nodes.hpp"
#include "transport/pool.hpp"
#include "transport/socket_endpoint.hpp"

namespace gradwire {
namespace {

class SocketTransport final : public Transport {
 public:
  SocketTransport(std::shared_ptr<SocketEndpoint> endpoint, TransportInfo info)
      : endpoint_(std::move(endpoint)), info_(std::move(info)) {}
  ~SocketTransport() override { endpoint_->close(); }

  [[nodiscard]] const TransportInfo& info() const noexcept override { return info_; }
  [[nodiscard]] bool reaches(Space space) const noexcept override { return space == Space::host; }

  [[nodiscard]] Work exchange(std::span<const Send> sends, std::span<const Recv> recvs, Slot slot, StreamRef) override {
    for (const Send& send : sends) check_message(send.to, send.bytes.space);
    for (const Recv& recv : recvs) check_message(recv.from, recv.bytes.space);
    return start(slot, [&](SocketOperation& operation) { operation.post(sends, recvs); });
  }
  [[nodiscard]] Work all_reduce_sum(Tensor inout, Slot, StreamRef) override {
    check_space(inout.space);
    return start(kSumSlot, [&](SocketOperation& operation) { operation.post_all_reduce(inout); });
  }

  void progress() override { endpoint_->progress(); }
  void abort(std::string_view why) noexcept override { endpoint_->abort(why); }

 private:
  template <class Post>
  Work start(Slot slot, Post&& post) {
    std::shared_ptr<SocketOperation> operation = pool_.acquire();
    const std::lock_guard lock(endpoint_->mutex());
    operation->begin(endpoint_, slot);
    try {
      if (endpoint_->failure()) throw Error(*endpoint_->failure());
      post(*operation);
    } catch (const Error& error) {
      operation->fail_with(error);
      endpoint_->withdraw(*operation);
    }
    return Work(std::move(operation));
  }
  void check_message(int peer, Space space) const {
    require(peer >= 0 && peer < info_.size && peer != info_.rank,
            "rank {} cannot exchange with rank {}: expected another rank from 0 to {}", info_.rank, peer,
            info_.size - 1);
    check_space(space);
  }
  static void check_space(Space space) {
    if (space != Space::host) fail(Errc::unsupported, "TCP connections reach host memory, not {} memory", name(space));
  }

  std::shared_ptr<SocketEndpoint> endpoint_;
  TransportInfo info_;
  Pool<SocketOperation> pool_;
};

}  // namespace

Communicator make_socket_mesh(SocketListener listener, int rank, std::span<const SocketCard> cards, Deadline deadline) {
  const int size = static_cast<int>(cards.size());
  const auto endpoint = std::make_shared<SocketEndpoint>(rank, connect_peers(listener, rank, cards, deadline));
  std::vector<int> nodes = consecutive_nodes(size, std::max(environment().ranks_per_node, 1));
  if (environment().ranks_per_node == 0) {
    std::vector<std::uint64_t> hosts;  // in order of appearance
    for (std::size_t r = 0; r < cards.size(); ++r) {
      auto found = std::find(hosts.begin(), hosts.end(), cards[r].host);
      if (found == hosts.end()) found = hosts.insert(hosts.end(), cards[r].host);
      nodes[r] = static_cast<int>(found - hosts.begin());
    }
  }
  TransportInfo info{.name = "tcp",
                     .rank = rank,
                     .size = size,
                     .any_thread = true,
                     .detail = "TCP between all ranks",
                     .nodes = std::move(nodes)};
  return Communicator(std::make_shared<SocketTransport>(endpoint, std::move(info)));
}

}  // namespace gradwire
