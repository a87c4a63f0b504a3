// Every rank owns one chunk. Three stages a segment:
//   0  encode the other owners' chunks, send each to its owner
//   1  add the frames of my chunk to my own input, in rank order; encode the sum once; send it to everybody
//   2  decode the other owners' sums
// Two lossy steps whatever n; the second one's error is the owner's residual on its chunk.

#include <vector>

#include "collectives/algorithm.hpp"
#include "collectives/message.hpp"

namespace gradwire {
namespace {

class ScatterReduce final : public Algorithm {
 public:
  ScatterReduce(Operation& op, std::size_t segment_bytes)
      : Algorithm(op), layout_(op.items, op.size(), segment_bytes), rank_(op.rank()), size_(op.size()) {
    for (int owner = 0; owner < size_; ++owner) {
      message_bytes_ = std::max(message_bytes_, layout_.max_message_bytes(owner));
      scratch_bytes_ = std::max(scratch_bytes_, layout_.max_scratch_bytes(owner));
    }
    // A lane holds one message per owner (outgoing in stage 0, the owners' sums afterwards), one per peer with what
    // they send me, and the scratch of my sums.
    scratch_ = (2 * static_cast<std::size_t>(size_) - 1) * message_bytes_;
    lane_bytes_ = scratch_ + scratch_bytes_;
    sends_.reserve(static_cast<std::size_t>(size_));
    recvs_.reserve(static_cast<std::size_t>(size_));
  }

  [[nodiscard]] int stages() const noexcept override { return 3; }
  [[nodiscard]] int segments() const noexcept override { return layout_.segments(); }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept override {
    return lane_bytes_ * static_cast<std::size_t>(lanes());
  }

  [[nodiscard]] Work run_stage(int stage, int segment) override {
    if (stage == 0) return scatter(segment);
    if (stage == 1) return reduce(segment);
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
  /// Peers in the order that spreads the load: each rank begins with its right neighbour.
  [[nodiscard]] int peer_at(int distance) const noexcept { return (rank_ + distance) % size_; }

  Work scatter(int segment) {
    sends_.clear();
    recvs_.clear();
    const bool mine = !layout_.pieces(rank_, segment).empty();
    for (int distance = 1; distance < size_; ++distance) {
      const int peer = peer_at(distance);
      if (mine) recvs_.push_back({peer_message(segment, peer), peer});
      const auto pieces = layout_.pieces(peer, segment);
      if (pieces.empty()) continue;
      const Bytes out = owner_message(segment, peer);
      sends_.push_back({out.slice(0, pack_input(op_, {0, segment}, pieces, out)), peer});
    }
    return op_.exchange(sends_, recvs_);
  }

  Work reduce(int segment) {
    sends_.clear();
    recvs_.clear();
    for (int distance = 1; distance < size_; ++distance) {
      const int owner = peer_at(distance);
      if (!layout_.pieces(owner, segment).empty()) recvs_.push_back({owner_message(segment, owner), owner});
    }
    const auto pieces = layout_.pieces(rank_, segment);
    if (!pieces.empty()) {
      const Sums sums(op_, lane(segment, lane_bytes_).slice(scratch_, scratch_bytes_));
      sums.load(pieces);
      for (int peer = 0; peer < size_; ++peer) {
        if (peer == rank_) continue;
        unpack_into_sums(op_, {{0, segment}, pieces, peer_message(segment, peer), peer}, sums, Write::add);
      }
      const Bytes out = owner_message(segment, rank_);
      const std::size_t size = pack_sums(op_, {1, segment}, pieces, sums, out);
      publish(op_, {1, segment}, pieces, out, sums);
      for (int distance = 1; distance < size_; ++distance) sends_.push_back({out.slice(0, size), peer_at(distance)});
    }
    return op_.exchange(sends_, recvs_);
  }

  void gather(int segment) {
    for (int owner = 0; owner < size_; ++owner) {
      const auto pieces = layout_.pieces(owner, segment);
      if (owner == rank_ || pieces.empty()) continue;
      unpack_into_results(op_, {{1, segment}, pieces, owner_message(segment, owner), owner});
    }
  }

  Layout layout_;
  int rank_;
  int size_;
  std::size_t message_bytes_ = 0;
  std::size_t scratch_bytes_ = 0;
  std::size_t scratch_ = 0;  // offset in a lane
  std::size_t lane_bytes_ = 0;
  std::vector<Send> sends_;
  std::vector<Recv> recvs_;
};

}  // namespace

std::unique_ptr<Algorithm> make_scatter_reduce(Operation& op, std::size_t segment_bytes) {
  return std::make_unique<ScatterReduce>(op, segment_bytes);
}

}  // namespace gradwire
