#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>

#include "base/env.hpp"
#include "base/fail.hpp"
#include "base/half.hpp"
#include "transport/abort_gate.hpp"
#include "transport/fifo.hpp"
#include "transport/nodes.hpp"
#include "transport/pool.hpp"
#include "transport/staged.hpp"

#include "gradwire/transport.hpp"

namespace gradwire {
namespace {

constexpr int kMaxLocalRanks = 1024;

/// One rank's side of an exchange: counts down as its messages are copied, by whichever side comes second. Messages are
/// numbered, receives first.
class LocalExchange final : public Completion {
 public:
  void begin(std::shared_ptr<AbortGate> gate, int rank, std::span<const Send> sends, std::span<const Recv> recvs,
             Slot slot) {
    gate_ = std::move(gate);
    rank_ = rank;
    slot_ = slot;
    too_long_.store(-1, std::memory_order_relaxed);
    remaining_.store(recvs.size() + sends.size() + 1, std::memory_order_relaxed);
    messages_.clear();
    for (const Recv& recv : recvs) messages_.push_back({recv.from});
    for (const Send& send : sends) messages_.push_back({send.to});
  }
  /// All messages are in their mailboxes. Never said where the gate was shut before that, so that poll() tells.
  void posted() noexcept { remaining_.fetch_sub(1, std::memory_order_acq_rel); }
  void message_done(std::size_t message) noexcept {
    std::atomic_ref(messages_[message].open).store(false, std::memory_order_relaxed);
    remaining_.fetch_sub(1, std::memory_order_acq_rel);
  }
  void message_too_long(std::size_t message) noexcept {
    too_long_.store(messages_[message].peer, std::memory_order_release);
    message_done(message);
  }

  bool poll() override {
    const bool all_done = remaining_.load(std::memory_order_acquire) == 0;
    if (const int peer = too_long_.load(std::memory_order_acquire); peer >= 0) {
      const std::string text = fmt::format(
          "a message between this rank and rank {} in slot {} is longer than its receiver expects: the ranks differ in "
          "count or compressor; GRADWIRE_CHECK=1 tells which",
          peer, static_cast<std::uint32_t>(slot_));
      if (!all_done) gate_->shut(rank_, text);  // what is still pending must not reach memory that is given up
      throw Error(Errc::rank_mismatch, text);
    }
    if (!all_done) gate_->check();
    return all_done;
  }

  [[nodiscard]] std::string describe() const override {
    std::size_t open = 0;
    std::vector<int> peers;
    for (Message& message : messages_) {
      if (!std::atomic_ref(message.open).load(std::memory_order_relaxed)) continue;
      ++open;
      if (std::find(peers.begin(), peers.end(), message.peer) == peers.end()) peers.push_back(message.peer);
    }
    std::string text = fmt::format("exchange in slot {}", static_cast<std::uint32_t>(slot_));
    if (open == 0) return text;
    return text + fmt::format(": {} message{} pending with {} {}", open, open == 1 ? "" : "s",
                              peers.size() == 1 ? "rank" : "ranks", fmt::join(peers, " "));
  }

 private:
  struct Message {
    int peer;
    bool open = true;  // cleared by whichever side copies it
  };

  std::shared_ptr<AbortGate> gate_;
  int rank_ = 0;
  Slot slot_{};
  std::atomic<std::size_t> remaining_{0};
  std::atomic<int> too_long_{-1};
  mutable std::vector<Message> messages_;  // mutable: std::atomic_ref takes no const object
};

struct PendingSend {
  ConstBytes bytes;
  std::shared_ptr<LocalExchange> owner;
  std::size_t message;
};
struct PendingRecv {
  Bytes bytes;
  std::shared_ptr<LocalExchange> owner;
  std::size_t message;
};

/// Messages of one (from, to, slot) that wait for their other side.
struct Mailbox {
  Fifo<PendingSend> sends;
  Fifo<PendingRecv> recvs;
};

/// A dense all-reduce that ranks join one by one. Each then sums its share of the elements for everybody.
struct Reduction {
  void begin(int ranks) {
    tensors.assign(static_cast<std::size_t>(ranks), std::nullopt);
    joined.store(0, std::memory_order_relaxed);
    shares_done.store(0, std::memory_order_relaxed);
    mismatch = false;
  }
  std::vector<std::optional<Tensor>> tensors;  // by rank, once it has joined
  std::atomic<int> joined{0};
  std::atomic<int> shares_done{0};
  bool mismatch = false;
};

struct Hub {
  explicit Hub(int size) : ranks(size) {}
  const int ranks;
  const std::shared_ptr<AbortGate> gate = std::make_shared<AbortGate>();
  std::mutex mutex;
  std::map<std::uint64_t, Mailbox> mailboxes;
  std::map<Slot, std::vector<std::shared_ptr<Reduction>>> reductions;  // that lack a rank, oldest first
  Pool<Reduction> reduction_pool;

  Mailbox& mailbox(int from, int to, Slot slot) {
    const auto pair = static_cast<std::uint64_t>(from) * kMaxLocalRanks + static_cast<std::uint64_t>(to);
    return mailboxes[pair << 32 | static_cast<std::uint64_t>(slot)];
  }
};

void transfer(const PendingSend& send, const PendingRecv& recv) {
  if (send.bytes.size > recv.bytes.size) {
    send.owner->message_too_long(send.message);
    recv.owner->message_too_long(recv.message);
    return;
  }
  if (send.bytes.size > 0) std::memcpy(recv.bytes.data, send.bytes.data, send.bytes.size);
  send.owner->message_done(send.message);
  recv.owner->message_done(recv.message);
}

template <class T>
T load_integer(const Tensor& tensor, std::size_t i) {
  T value;
  std::memcpy(&value, static_cast<const std::byte*>(tensor.data) + i * sizeof(T), sizeof(T));
  return value;
}
template <class T>
void store_integer(const Tensor& tensor, std::size_t i, T value) {
  std::memcpy(static_cast<std::byte*>(tensor.data) + i * sizeof(T), &value, sizeof(T));
}

class LocalAllReduce final : public Completion {
 public:
  void begin(std::shared_ptr<Hub> hub, std::shared_ptr<Reduction> reduction, int rank) {
    hub_ = std::move(hub);
    reduction_ = std::move(reduction);
    rank_ = static_cast<std::size_t>(rank);
    share_done_ = false;
  }

  bool poll() override {
    if (!share_done_ && reduction_->joined.load(std::memory_order_acquire) == hub_->ranks) {
      if (reduction_->mismatch) fail(Errc::rank_mismatch, "ranks differ in the count or dtype of a dense all-reduce");
      {
        const AbortGate::Passage passage(*hub_->gate);
        sum_share();
      }
      share_done_ = true;
      reduction_->shares_done.fetch_add(1, std::memory_order_acq_rel);
    }
    if (share_done_ && reduction_->shares_done.load(std::memory_order_acquire) == hub_->ranks) return true;
    hub_->gate->check();
    return false;
  }

  [[nodiscard]] std::string describe() const override {
    return fmt::format("dense all-reduce: {} of {} ranks have joined",
                       reduction_->joined.load(std::memory_order_relaxed), hub_->ranks);
  }

 private:
  void sum_share() const {
    switch (reduction_->tensors[rank_]->dtype) {
      case DType::u8: return sum_elements<std::uint8_t>(load_integer<std::uint8_t>, store_integer<std::uint8_t>);
      case DType::u16: return sum_elements<std::uint16_t>(load_integer<std::uint16_t>, store_integer<std::uint16_t>);
      case DType::u32: return sum_elements<std::uint32_t>(load_integer<std::uint32_t>, store_integer<std::uint32_t>);
      case DType::f32:
      case DType::f16:
      case DType::bf16: break;
    }
    sum_elements<float>([](const Tensor& t, std::size_t i) { return load_f32(t.data, t.dtype, i); },
                        [](const Tensor& t, std::size_t i, float sum) { store_f32(t.data, t.dtype, i, sum); });
  }

  template <class T, class Load, class Store>
  void sum_elements(const Load& load, const Store& store) const {
    const Tensor& mine = *reduction_->tensors[rank_];
    const auto n = static_cast<std::size_t>(hub_->ranks);
    const std::size_t r = rank_;
    const std::size_t first = mine.count / n * r + std::min(r, mine.count % n);
    const std::size_t last = first + mine.count / n + (r < mine.count % n ? 1 : 0);
    constexpr std::size_t kBlock = 1024;
    T sums[kBlock];
    for (std::size_t begin = first; begin < last; begin += kBlock) {
      const std::size_t block = std::min(kBlock, last - begin);
      std::fill_n(sums, block, T{});
      for (const auto& tensor : reduction_->tensors) {
        for (std::size_t i = 0; i < block; ++i) sums[i] = static_cast<T>(sums[i] + load(*tensor, begin + i));
      }
      for (const auto& tensor : reduction_->tensors) {
        for (std::size_t i = 0; i < block; ++i) store(*tensor, begin + i, sums[i]);
      }
    }
  }

  std::shared_ptr<Hub> hub_;
  std::shared_ptr<Reduction> reduction_;
  std::size_t rank_ = 0;
  bool share_done_ = false;
};

class LocalTransport final : public Transport {
 public:
  LocalTransport(std::shared_ptr<Hub> hub, int rank, std::vector<int> nodes) : hub_(std::move(hub)) {
    info_ = {.name = "local",
             .rank = rank,
             .size = hub_->ranks,
             .any_thread = true,
             .detail = "threads of one process",
             .nodes = std::move(nodes)};
  }

  [[nodiscard]] const TransportInfo& info() const noexcept override { return info_; }
  [[nodiscard]] bool reaches(Space space) const noexcept override { return space == Space::host; }

  [[nodiscard]] Work exchange(std::span<const Send> sends, std::span<const Recv> recvs, Slot slot, StreamRef) override {
    for (const Send& send : sends) check_peer(send.to);
    for (const Recv& recv : recvs) check_peer(recv.from);
    std::shared_ptr<LocalExchange> own = pool_.acquire();
    own->begin(hub_->gate, info_.rank, sends, recvs, slot);
    try {
      const AbortGate::Passage passage(*hub_->gate);
      std::size_t message = 0;
      for (const Recv& recv : recvs) post_recv({recv.bytes, own, message++}, recv.from, slot);
      for (const Send& send : sends) post_send({send.bytes, own, message++}, send.to, slot);
      own->posted();
    } catch (const Error&) {  // the gate is shut: the Work says so
    }
    return Work(std::move(own));
  }

  [[nodiscard]] Work all_reduce_sum(Tensor inout, Slot slot, StreamRef) override {
    std::shared_ptr<LocalAllReduce> own = all_reduce_pool_.acquire();
    own->begin(hub_, join(inout, slot), info_.rank);
    return Work(std::move(own));
  }

  void progress() override {}
  void abort(std::string_view why) noexcept override { hub_->gate->shut(info_.rank, why); }

 private:
  void check_peer(int peer) const {
    require(peer >= 0 && peer < info_.size && peer != info_.rank, "rank {} cannot exchange with rank {} of {}",
            info_.rank, peer, info_.size);
  }

  void post_recv(PendingRecv recv, int from, Slot slot) {
    std::unique_lock lock(hub_->mutex);
    Mailbox& box = hub_->mailbox(from, info_.rank, slot);
    if (box.sends.empty()) return box.recvs.push(std::move(recv));
    const PendingSend send = box.sends.pop();
    lock.unlock();
    transfer(send, recv);
  }

  void post_send(PendingSend send, int to, Slot slot) {
    std::unique_lock lock(hub_->mutex);
    Mailbox& box = hub_->mailbox(info_.rank, to, slot);
    if (box.recvs.empty()) return box.sends.push(std::move(send));
    const PendingRecv recv = box.recvs.pop();
    lock.unlock();
    transfer(send, recv);
  }

  /// Joins the oldest all-reduce of the slot that lacks this rank, or opens one.
  std::shared_ptr<Reduction> join(Tensor inout, Slot slot) {
    const auto self = static_cast<std::size_t>(info_.rank);
    const std::lock_guard lock(hub_->mutex);
    auto& open = hub_->reductions[slot];
    auto found = std::find_if(open.begin(), open.end(), [&](const auto& r) { return !r->tensors[self].has_value(); });
    if (found == open.end()) {
      found = open.insert(open.end(), hub_->reduction_pool.acquire());
      (*found)->begin(hub_->ranks);
    }
    std::shared_ptr<Reduction> reduction = *found;
    for (const auto& other : reduction->tensors) {
      if (other && (other->count != inout.count || other->dtype != inout.dtype)) reduction->mismatch = true;
    }
    reduction->tensors[self] = inout;
    const int joined = reduction->joined.load(std::memory_order_relaxed) + 1;
    if (joined == hub_->ranks) open.erase(found);
    reduction->joined.store(joined, std::memory_order_release);
    return reduction;
  }

  std::shared_ptr<Hub> hub_;
  TransportInfo info_;
  Pool<LocalExchange> pool_;
  Pool<LocalAllReduce> all_reduce_pool_;
};

}  // namespace

std::vector<Communicator> make_local(int size, int ranks_per_node) {
  require(size >= 1 && size <= kMaxLocalRanks, "make_local({}): expected 1 to {} ranks", size, kMaxLocalRanks);
  require(ranks_per_node >= 0, "make_local: {} ranks per node", ranks_per_node);
  if (ranks_per_node == 0) ranks_per_node = environment().ranks_per_node;
  const std::vector<int> nodes = consecutive_nodes(size, ranks_per_node > 0 ? ranks_per_node : size);
  const auto hub = std::make_shared<Hub>(size);
  std::vector<Communicator> ranks;
  for (int rank = 0; rank < size; ++rank) {
    const Communicator comm(reach_device(std::make_shared<LocalTransport>(hub, rank, nodes)));
    ranks.push_back(environment().check ? make_checked(comm) : comm);
  }
  return ranks;
}

}  // namespace gradwire
