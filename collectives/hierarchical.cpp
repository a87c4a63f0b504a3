// scatter_reduce between nodes. Chunk c is owned by rank c, and has an agent in every node (node_map.hpp), in its own
// the owner. Five stages a segment:
//   0  send my input to each chunk to its agent in my node, coded by the inner compressor
//   1  as an agent of another node's chunk: add my node's inputs to it, encode their sum once, send it to the owner
//   2  as an owner: add my node's inputs and the other nodes' sums, encode once, send it to my node and to the agents
//   3  as an agent: decode what the owner sent, pass its bytes on to my node. Decode what my node's owners sent
//   4  decode what agents passed on
// Lossy steps: agents' and owners', and with an inner compressor that is lossy the senders'; each is its maker's
// residual. Between nodes travel one message a chunk and node to the owner, and one back.

#include <vector>

#include "collectives/by_nodes.hpp"

namespace gradwire {
namespace {

class Hierarchical final : public ByNodes {
 public:
  Hierarchical(Operation& op, std::size_t segment_bytes)
      : ByNodes(op, segment_bytes), my_agents_(map_.foreign_agents(op.rank())) {
    place_messages();
    sends_.reserve(static_cast<std::size_t>(size_) * (map_.mates().size() + 1));
    recvs_.reserve(sends_.capacity());
  }

  [[nodiscard]] int stages() const noexcept override { return 5; }

  [[nodiscard]] Work run_stage(int stage, int segment) override {
    sends_.clear();
    recvs_.clear();
    // In the same order on every rank: two of them may exchange messages of several chunks in one stage.
    for (int chunk = 0; chunk < size_; ++chunk) {
      const auto pieces = layout_.pieces(chunk, segment);
      if (pieces.empty()) continue;
      switch (stage) {
        case 0: bring(chunk, segment, pieces); break;
        case 1: sum_node(chunk, segment, pieces); break;
        case 2: sum_nodes(chunk, segment, pieces); break;
        case 3: pass_on(chunk, segment, pieces); break;
        default: take(chunk, segment, pieces); break;
      }
    }
    return stage == 4 ? Work{} : op_.exchange(sends_, recvs_);
  }

 private:
  /// A lane holds, for each chunk, a message that goes out or that holds the final sum in the end, and beside it what
  /// arrives here to be summed: from mates where this rank is the agent, from other nodes where it is the owner.
  void place_messages() {
    std::size_t scratch_bytes = 0;
    for (int chunk = 0; chunk < size_; ++chunk) {
      const std::size_t inner = layout_.max_other_bytes(chunk);
      const std::size_t coded = layout_.max_message_bytes(chunk);
      chunk_bytes_.push_back(map_.is_agent(chunk) ? coded : std::max(inner, coded));
      chunk_first_.push_back(place(chunk_bytes_.back()));
      mate_first_.push_back(map_.is_agent(chunk) ? place(inner * map_.mates().size()) : 0);
      if (map_.is_agent(chunk)) scratch_bytes = std::max(scratch_bytes, layout_.max_scratch_bytes(chunk));
    }
    node_first_ = place(layout_.max_message_bytes(rank_) * my_agents_.size());
    scratch_bytes_ = scratch_bytes;
    scratch_first_ = place(scratch_bytes);
    lane_bytes_ = largest_lane();
  }
  /// Of all ranks' lanes: every rank reserves as much, as all need the same workspace.
  [[nodiscard]] std::size_t largest_lane() const {
    const auto n = static_cast<std::size_t>(size_);
    std::vector<std::size_t> lanes(n);
    std::vector<std::size_t> scratches(n);
    for (int node = 0; node < map_.nodes(); ++node) {
      const std::vector<int>& ranks = map_.ranks_of(node);
      for (int chunk = 0; chunk < size_; ++chunk) {
        const std::size_t inner = layout_.max_other_bytes(chunk);
        const std::size_t coded = layout_.max_message_bytes(chunk);
        const int agent = map_.agent(node, chunk);
        for (const int rank : ranks) {
          lanes[static_cast<std::size_t>(rank)] +=
              rank == agent ? coded + inner * (ranks.size() - 1) : std::max(inner, coded);
        }
        std::size_t& scratch = scratches[static_cast<std::size_t>(agent)];
        scratch = std::max(scratch, layout_.max_scratch_bytes(chunk));
      }
    }
    std::size_t largest = 0;
    for (std::size_t rank = 0; rank < n; ++rank) {
      const std::size_t from_nodes =
          layout_.max_message_bytes(static_cast<int>(rank)) * (static_cast<std::size_t>(map_.nodes()) - 1);
      largest = std::max(largest, lanes[rank] + scratches[rank] + from_nodes);
    }
    return largest;
  }
  std::size_t place(std::size_t bytes) noexcept {
    const std::size_t first = lane_bytes_;
    lane_bytes_ += bytes;
    return first;
  }

  [[nodiscard]] Bytes chunk_message(int segment, int chunk) const {
    const auto c = static_cast<std::size_t>(chunk);
    return lane(segment, lane_bytes_).slice(chunk_first_[c], chunk_bytes_[c]);
  }
  [[nodiscard]] Bytes my_input(int segment, int chunk) const override { return chunk_message(segment, chunk); }
  [[nodiscard]] Bytes mate_message(int segment, int chunk, std::size_t mate) const override {
    const std::size_t bytes = layout_.max_other_bytes(chunk);
    return lane(segment, lane_bytes_).slice(mate_first_[static_cast<std::size_t>(chunk)] + mate * bytes, bytes);
  }
  [[nodiscard]] Bytes node_message(int segment, std::size_t node) const {
    const std::size_t bytes = layout_.max_message_bytes(rank_);
    return lane(segment, lane_bytes_).slice(node_first_ + node * bytes, bytes);
  }
  [[nodiscard]] Sums sums(int segment) const {
    return {op_, lane(segment, lane_bytes_).slice(scratch_first_, scratch_bytes_)};
  }

  void sum_node(int chunk, int segment, std::span<const Piece> pieces) {
    if (chunk == rank_) {
      for (std::size_t i = 0; i < my_agents_.size(); ++i)
        recvs_.push_back({arriving(op_, pieces, node_message(segment, i), true), my_agents_[i]});
    }
    if (!map_.is_foreign(chunk) || !map_.is_agent(chunk)) return;
    const Sums node_sums = sums(segment);
    add_up_node(node_sums, chunk, segment, pieces);
    const Bytes out = chunk_message(segment, chunk);
    sends_.push_back({out.slice(0, pack_sums(op_, {1, segment}, pieces, node_sums, out)), chunk});
  }

  void sum_nodes(int chunk, int segment, std::span<const Piece> pieces) {
    const Bytes message = chunk_message(segment, chunk);
    if (chunk != rank_) {
      if (!map_.is_foreign(chunk) || map_.is_agent(chunk))
        recvs_.push_back({arriving(op_, pieces, message, true), chunk});
      return;
    }
    const Sums all = sums(segment);
    add_up_node(all, chunk, segment, pieces);
    for (std::size_t i = 0; i < my_agents_.size(); ++i) {
      unpack_into_sums(op_, {{1, segment}, pieces, node_message(segment, i), my_agents_[i], nullptr, true}, all,
                       Write::add);
    }
    const std::size_t size = pack_sums(op_, {2, segment}, pieces, all, message);
    publish(op_, {2, segment}, pieces, message, all);
    for (const int agent : my_agents_) sends_.push_back({message.slice(0, size), agent});
    send_to_mates(message.slice(0, size));
  }

  void pass_on(int chunk, int segment, std::span<const Piece> pieces) {
    const Bytes message = chunk_message(segment, chunk);
    if (chunk == rank_) return;
    if (map_.is_foreign(chunk) && !map_.is_agent(chunk)) {
      recvs_.push_back({arriving(op_, pieces, message, true), map_.home_agent(chunk)});
      return;
    }
    unpack_into_results(op_, {{2, segment}, pieces, message, chunk, nullptr, true});
    if (map_.is_foreign(chunk)) send_to_mates(message.slice(0, restamp(op_, {3, segment}, pieces, message)));
  }

  void take(int chunk, int segment, std::span<const Piece> pieces) {
    if (!map_.is_foreign(chunk) || map_.is_agent(chunk)) return;
    const int agent = map_.home_agent(chunk);
    unpack_into_results(op_, {{3, segment}, pieces, chunk_message(segment, chunk), agent, nullptr, true});
  }

  void send_to_mates(Bytes message) {
    for (const int mate : map_.mates()) sends_.push_back({message, mate});
  }

  std::vector<int> my_agents_;  // of my chunk, in the other nodes
  std::vector<std::size_t> chunk_bytes_;
  std::vector<std::size_t> chunk_first_;  // offsets in a lane
  std::vector<std::size_t> mate_first_;
  std::size_t node_first_ = 0;
  std::size_t scratch_first_ = 0;
  std::size_t scratch_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Algorithm> make_hierarchical(Operation& op, std::size_t segment_bytes) {
  return std::make_unique<Hierarchical>(op, segment_bytes);
}

}  // namespace gradwire
