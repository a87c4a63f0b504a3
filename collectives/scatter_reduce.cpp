// Every rank owns one chunk. Three stages a segment:
//   0  encode the other owners' chunks, send each to its owner
//   1  add the frames of my chunk to my own input, in rank order; encode the sum once; send it to everybody
//   2  decode the other owners' sums
// Two lossy steps whatever n; the second one's error is the owner's residual on its chunk.
//
// Its halves are algorithms of their own, of two stages each. A reduce-scatter ends with the owners' exact sums. An
// all-gather begins where they are in the tensors: 0 encode my chunk, send it to everybody; 1 decode the others'.

#include <vector>

#include "collectives/algorithm.hpp"
#include "collectives/message.hpp"

namespace gradwire {
namespace {

enum class Part { all, scatter, gather };

class ScatterReduce final : public Algorithm {
 public:
  ScatterReduce(Operation& op, std::size_t segment_bytes, Part part)
      : Algorithm(op), layout_(op.items, op.size(), segment_bytes), part_(part), rank_(op.rank()), size_(op.size()) {
    for (int owner = 0; owner < size_; ++owner) {
      message_bytes_ = std::max(message_bytes_, layout_.max_message_bytes(owner));
      scratch_bytes_ = std::max(scratch_bytes_, layout_.max_scratch_bytes(owner));
      every_rank_sends_ = every_rank_sends_ && layout_.max_message_bytes(owner) > kEnvelopeBytes;
    }
    // A lane holds one message per owner (outgoing in stage 0, the owners' sums afterwards), one per peer with what
    // they send me, and the scratch of my sums.
    const auto n = static_cast<std::size_t>(size_);
    scratch_ = (part == Part::gather ? n : 2 * n - 1) * message_bytes_;
    lane_bytes_ = scratch_ + scratch_bytes_;
    sends_.reserve(static_cast<std::size_t>(size_));
    recvs_.reserve(static_cast<std::size_t>(size_));
  }

  [[nodiscard]] int stages() const noexcept override { return part_ == Part::all ? 3 : 2; }
  [[nodiscard]] int segments() const noexcept override { return layout_.segments(); }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept override {
    return lane_bytes_ * static_cast<std::size_t>(lanes());
  }

  /// In a reduce-scatter a verdict reaches owners only, in an all-gather it starts from owners only.
  [[nodiscard]] bool spreads_verdicts() const noexcept override {
    return part_ == Part::all || (part_ == Part::gather && every_rank_sends_);
  }

  [[nodiscard]] Work run_stage(int stage, int segment) override {
    if (part_ != Part::gather) {
      if (stage == 0) return scatter(segment);
      if (part_ == Part::scatter) {
        keep(segment);
        return {};
      }
    }
    if (stage < stages() - 1) return share({stage, segment});
    gather(segment);
    return {};
  }

 private:
  [[nodiscard]] Bytes message(int segment, int index) const {
    return lane(segment, lane_bytes_).slice(static_cast<std::size_t>(index) * message_bytes_, message_bytes_);
  }
  [[nodiscard]] Bytes owner_message(int segment, int owner) const { return message(segment, owner); }
  [[nodiscard]] Bytes peer_message(int segment, int peer) const {
    return message(segment, size_ + (peer < rank_ ? peer : peer - 1));
  }
  [[nodiscard]] Sums place_sums(int segment) const {
    return {op_, lane(segment, lane_bytes_).slice(scratch_, scratch_bytes_)};
  }
  /// Peers in the order that spreads the load: each rank begins with its right neighbour.
  [[nodiscard]] int peer_at(int distance) const noexcept { return (rank_ + distance) % size_; }

  Work scatter(int segment) {
    sends_.clear();
    recvs_.clear();
    const auto own = layout_.pieces(rank_, segment);
    const bool mine = !own.empty();
    if (part_ == Part::scatter) check_input(op_, own);  // nobody encodes it
    for (int distance = 1; distance < size_; ++distance) {
      const int peer = peer_at(distance);
      if (mine) recvs_.push_back({arriving(op_, own, peer_message(segment, peer), false), peer});
      const auto pieces = layout_.pieces(peer, segment);
      if (pieces.empty()) continue;
      const Bytes out = owner_message(segment, peer);
      sends_.push_back({out.slice(0, pack_input(op_, {0, segment}, pieces, out)), peer});
    }
    return op_.exchange(sends_, recvs_);
  }

  /// The sum of my chunk: my own input and what the others sent, in rank order.
  void add_up(const Sums& sums, int segment, std::span<const Piece> pieces) {
    sums.load(pieces);
    for (int peer = 0; peer < size_; ++peer) {
      if (peer == rank_) continue;
      unpack_into_sums(op_, {{0, segment}, pieces, peer_message(segment, peer), peer}, sums, Write::add);
    }
  }

  void keep(int segment) {
    const auto pieces = layout_.pieces(rank_, segment);
    if (pieces.empty()) return;
    const Sums sums = place_sums(segment);
    add_up(sums, segment, pieces);
    if (op_.verdict) return;
    clear_residuals(op_, pieces);
    deliver_sums(op_, pieces, sums, true);
  }

  Work share(MessageId id) {
    sends_.clear();
    recvs_.clear();
    for (int distance = 1; distance < size_; ++distance) {
      const int owner = peer_at(distance);
      const auto theirs = layout_.pieces(owner, id.segment);
      if (theirs.empty()) continue;
      recvs_.push_back({arriving(op_, theirs, owner_message(id.segment, owner), part_ == Part::all), owner});
    }
    const auto pieces = layout_.pieces(rank_, id.segment);
    if (!pieces.empty()) {
      const Bytes out = owner_message(id.segment, rank_);
      const std::size_t size = encode_own(id, pieces, out);
      for (int distance = 1; distance < size_; ++distance) {
        sends_.push_back({out.slice(0, size), peer_at(distance)});
      }
    }
    return op_.exchange(sends_, recvs_);
  }

  /// The one message of my chunk that all ranks, this one too, make their results of.
  std::size_t encode_own(MessageId id, std::span<const Piece> pieces, Bytes out) {
    std::size_t size = 0;
    const Sums sums = place_sums(id.segment);
    if (part_ == Part::all && adds_in_one_pass(op_, pieces, static_cast<std::size_t>(size_) - 1)) {
      messages_.clear();
      for (int peer = 0; peer < size_; ++peer) {
        if (peer != rank_) messages_.push_back(peer_message(id.segment, peer));
      }
      size = pack_added_sums(op_, id, pieces, messages_, out);
    } else if (part_ == Part::all) {
      add_up(sums, id.segment, pieces);
      size = pack_sums(op_, id, pieces, sums, out);
    } else {
      sums.load(pieces);  // what the rounding of 16-bit results is measured against
      size = pack_shard(op_, id, pieces, out);
    }
    publish(op_, id, pieces, out, sums, part_ == Part::all);
    return size;
  }

  void gather(int segment) {
    const int sent_in = stages() - 2;
    const bool of_sums = part_ == Part::all;
    for (int owner = 0; owner < size_; ++owner) {
      const auto pieces = layout_.pieces(owner, segment);
      if (owner == rank_ || pieces.empty()) continue;
      unpack_into_results(op_, {{sent_in, segment}, pieces, owner_message(segment, owner), owner, nullptr, of_sums});
    }
  }

  Layout layout_;
  Part part_;
  int rank_;
  int size_;
  std::size_t message_bytes_ = 0;
  std::size_t scratch_bytes_ = 0;
  std::size_t scratch_ = 0;  // offset in a lane
  bool every_rank_sends_ = true;
  std::size_t lane_bytes_ = 0;
  std::vector<ConstBytes> messages_;
  std::vector<Send> sends_;
  std::vector<Recv> recvs_;
};

}  // namespace

std::unique_ptr<Algorithm> make_scatter_reduce(Operation& op, std::size_t segment_bytes) {
  return std::make_unique<ScatterReduce>(op, segment_bytes, Part::all);
}

std::unique_ptr<Algorithm> make_reduce_scatter(Operation& op, std::size_t segment_bytes) {
  return std::make_unique<ScatterReduce>(op, segment_bytes, Part::scatter);
}

std::unique_ptr<Algorithm> make_all_gather(Operation& op, std::size_t segment_bytes) {
  return std::make_unique<ScatterReduce>(op, segment_bytes, Part::gather);
}

}  // namespace gradwire
