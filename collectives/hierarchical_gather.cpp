// gather_sum between nodes, for frames whose sum must not be encoded again: sparse ones. Every chunk has an agent in
// each node (node_map.hpp). Four stages a segment:
//   0  send my input to each chunk to its agent in my node, coded by the inner compressor
//   1  as an agent: add my node's inputs, encode their sum once, send it to the chunk's agents in the other nodes
//   2  as an agent: pass all nodes' frames on to my node, decode and add them in the order of nodes
//   3  do the same with the frames that agents passed on
// Lossy steps: agents', and with an inner compressor that is lossy the senders'; each is its maker's residual.

#include <vector>

#include "collectives/by_nodes.hpp"

namespace gradwire {
namespace {

class HierarchicalGather final : public ByNodes {
 public:
  HierarchicalGather(Operation& op, std::size_t segment_bytes) : ByNodes(op, segment_bytes) {
    for (int chunk = 0; chunk < size_; ++chunk) {
      foreign_agents_.push_back(map_.foreign_agents(chunk));
      chunk_first_.push_back(place(chunk_bytes(map_.home(), chunk, rank_)));
      scratch_bytes_ = std::max(scratch_bytes_, layout_.max_scratch_bytes(chunk));
    }
    scratch_first_ = largest_chunks();
    lane_bytes_ = scratch_first_ + scratch_bytes_;
    sends_.reserve(static_cast<std::size_t>(size_) * static_cast<std::size_t>(size_));
    recvs_.reserve(sends_.capacity());
  }

  [[nodiscard]] int stages() const noexcept override { return 4; }

  [[nodiscard]] Work run_stage(int stage, int segment) override {
    sends_.clear();
    recvs_.clear();
    // In the same order on every rank: two of them may exchange messages of several chunks in one stage.
    for (int chunk = 0; chunk < size_; ++chunk) {
      const auto pieces = layout_.pieces(chunk, segment);
      if (pieces.empty()) continue;
      const bool agent = map_.is_agent(chunk);
      if (stage == 0) bring(chunk, segment, pieces);
      if (stage == 1 && agent) sum_node(chunk, segment, pieces);
      if (stage == 2) pass_on(chunk, segment, pieces);
      if (stage == 3 && !agent) sum_nodes(chunk, {2, segment}, pieces);
    }
    return stage == 3 ? Work{} : op_.exchange(sends_, recvs_);
  }

 private:
  /// A lane holds, for each chunk, the message of every node's agent, of which my input shares the place where I am no
  /// agent; and where I am, my mates' inputs behind them.
  [[nodiscard]] std::size_t chunk_bytes(int node, int chunk, int rank) const {
    const std::size_t inner = layout_.max_other_bytes(chunk);
    const std::size_t coded = layout_.max_message_bytes(chunk) * static_cast<std::size_t>(map_.nodes());
    if (map_.agent(node, chunk) != rank) return std::max(inner, coded);
    return coded + inner * (map_.ranks_of(node).size() - 1);
  }
  /// Of all ranks: every rank reserves as much, as all need the same workspace.
  [[nodiscard]] std::size_t largest_chunks() const {
    std::size_t largest = 0;
    for (int rank = 0; rank < size_; ++rank) {
      std::size_t bytes = 0;
      for (int chunk = 0; chunk < size_; ++chunk) bytes += chunk_bytes(map_.node_of(rank), chunk, rank);
      largest = std::max(largest, bytes);
    }
    return largest;
  }
  std::size_t place(std::size_t bytes) noexcept {
    const std::size_t first = placed_;
    placed_ += bytes;
    return first;
  }

  [[nodiscard]] Bytes slot(int segment, int chunk, std::size_t before, std::size_t bytes) const {
    return lane(segment, lane_bytes_).slice(chunk_first_[static_cast<std::size_t>(chunk)] + before, bytes);
  }
  [[nodiscard]] Bytes node_message(int segment, int chunk, int node) const {
    const std::size_t bytes = layout_.max_message_bytes(chunk);
    return slot(segment, chunk, static_cast<std::size_t>(node) * bytes, bytes);
  }
  [[nodiscard]] Bytes mate_message(int segment, int chunk, std::size_t mate) const override {
    const std::size_t coded = layout_.max_message_bytes(chunk) * static_cast<std::size_t>(map_.nodes());
    const std::size_t bytes = layout_.max_other_bytes(chunk);
    return slot(segment, chunk, coded + mate * bytes, bytes);
  }
  [[nodiscard]] Bytes my_input(int segment, int chunk) const override {
    return slot(segment, chunk, 0, layout_.max_other_bytes(chunk));
  }
  [[nodiscard]] Sums sums(int segment) const {
    return {op_, lane(segment, lane_bytes_).slice(scratch_first_, scratch_bytes_)};
  }

  void sum_node(int chunk, int segment, std::span<const Piece> pieces) {
    const Sums node_sums = sums(segment);
    add_up_node(node_sums, chunk, segment, pieces);
    const Bytes out = node_message(segment, chunk, map_.home());
    const std::size_t size = pack_sums(op_, {1, segment}, pieces, node_sums, out);
    for (const int agent : foreign_agents_[static_cast<std::size_t>(chunk)]) {
      sends_.push_back({out.slice(0, size), agent});
      recvs_.push_back({arriving(op_, pieces, node_message(segment, chunk, map_.node_of(agent)), true), agent});
    }
  }

  void pass_on(int chunk, int segment, std::span<const Piece> pieces) {
    const bool agent = map_.is_agent(chunk);
    if (agent) sum_nodes(chunk, {1, segment}, pieces);
    for (int node = 0; node < map_.nodes(); ++node) {
      const Bytes message = node_message(segment, chunk, node);
      if (!agent) {
        recvs_.push_back({arriving(op_, pieces, message, true), map_.home_agent(chunk)});
        continue;
      }
      const Bytes passed = message.slice(0, restamp(op_, {2, segment}, pieces, message));
      for (const int mate : map_.mates()) sends_.push_back({passed, mate});
    }
  }

  void sum_nodes(int chunk, MessageId id, std::span<const Piece> pieces) {
    const Sums all = sums(id.segment);
    for (int node = 0; node < map_.nodes(); ++node) {
      const int from = id.stage == 1 ? map_.agent(node, chunk) : map_.home_agent(chunk);
      unpack_into_sums(op_, {id, pieces, node_message(id.segment, chunk, node), from, nullptr, true}, all,
                       node == 0 ? Write::assign : Write::add);
    }
    if (!op_.verdict) deliver_sums(op_, pieces, all, chunk == rank_);
  }

  std::vector<std::vector<int>> foreign_agents_;  // by chunk
  std::vector<std::size_t> chunk_first_;          // offsets in a lane
  std::size_t placed_ = 0;
  std::size_t scratch_first_ = 0;
  std::size_t scratch_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Algorithm> make_hierarchical_gather(Operation& op, std::size_t segment_bytes) {
  return std::make_unique<HierarchicalGather>(op, segment_bytes);
}

}  // namespace gradwire
