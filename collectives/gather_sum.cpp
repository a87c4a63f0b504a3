// Everybody sends its frames to everybody and sums all of them in rank order. Two stages a segment:
//   0  encode my input, send it to all
//   1  decode and add the frames of ranks 0 .. n-1, my own included
// One lossy step; (n-1) S/ratio bytes sent, so for small n and for sparse frames.

#include <vector>

#include "collectives/algorithm.hpp"
#include "collectives/message.hpp"

namespace gradwire {
namespace {

class GatherSum final : public Algorithm {
 public:
  GatherSum(Operation& op, std::size_t segment_bytes)
      : Algorithm(op),
        layout_(op.items, 1, segment_bytes),
        message_bytes_(layout_.max_message_bytes(0)),
        scratch_(message_bytes_ * static_cast<std::size_t>(op.size())),
        lane_bytes_(scratch_ + layout_.max_scratch_bytes(0)) {
    sends_.reserve(static_cast<std::size_t>(op.size()));
    recvs_.reserve(static_cast<std::size_t>(op.size()));
  }

  [[nodiscard]] int stages() const noexcept override { return 2; }
  [[nodiscard]] int segments() const noexcept override { return layout_.segments(); }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept override {
    return lane_bytes_ * static_cast<std::size_t>(lanes());
  }

  [[nodiscard]] Work run_stage(int stage, int segment) override {
    const auto pieces = layout_.pieces(0, segment);
    if (pieces.empty()) return {};
    if (stage == 0) return gather(segment, pieces);
    sum(segment, pieces);
    return {};
  }

 private:
  [[nodiscard]] Bytes message_of(int segment, int rank) const {
    return lane(segment, lane_bytes_).slice(static_cast<std::size_t>(rank) * message_bytes_, message_bytes_);
  }

  Work gather(int segment, std::span<const Piece> pieces) {
    sends_.clear();
    recvs_.clear();
    const Bytes mine = message_of(segment, op_.rank());
    const std::size_t size = pack_input(op_, {0, segment}, pieces, mine);
    for (int distance = 1; distance < op_.size(); ++distance) {
      const int peer = (op_.rank() + distance) % op_.size();
      sends_.push_back({mine.slice(0, size), peer});
      recvs_.push_back({arriving(op_, pieces, message_of(segment, peer), false), peer});
    }
    return op_.exchange(sends_, recvs_);
  }

  void sum(int segment, std::span<const Piece> pieces) {
    const Sums sums(op_, lane(segment, lane_bytes_).slice(scratch_, lane_bytes_ - scratch_));
    for (int rank = 0; rank < op_.size(); ++rank) {
      unpack_into_sums(op_, {{0, segment}, pieces, message_of(segment, rank), rank}, sums,
                       rank == 0 ? Write::assign : Write::add);
    }
    if (!op_.verdict) deliver_sums(op_, pieces, sums, segment % op_.size() == op_.rank());
  }

  Layout layout_;
  std::size_t message_bytes_;
  std::size_t scratch_;  // offset in a lane
  std::size_t lane_bytes_;
  std::vector<Send> sends_;
  std::vector<Recv> recvs_;
};

}  // namespace

std::unique_ptr<Algorithm> make_gather_sum(Operation& op, std::size_t segment_bytes) {
  return std::make_unique<GatherSum>(op, segment_bytes);
}

}  // namespace gradwire
