// Chunks travel round the ring, summed on the way. With n ranks, 2n-1 stages a segment:
//   0         encode my input to chunk r, send it right
//   1..n-1    take chunk r-stage from the left, add my input, encode the partial sum; after n-1 hops it is the sum,
//             which I own and publish. Send it right
//   n..2n-2   take a published sum from the left, pass its bytes on unchanged (but for the last one), decode it
// Every rank encodes every chunk once and keeps the error of that as its residual: n lossy steps on the way of a chunk.

#include <array>
#include <vector>

#include "collectives/algorithm.hpp"
#include "collectives/message.hpp"

namespace gradwire {
namespace {

class Ring final : public Algorithm {
 public:
  Ring(Operation& op, std::size_t segment_bytes)
      : Algorithm(op), layout_(op.items, op.size(), segment_bytes), rank_(op.rank()), size_(op.size()) {
    for (int chunk = 0; chunk < size_; ++chunk) {
      message_bytes_ = std::max(message_bytes_, layout_.max_message_bytes(chunk));
      scratch_bytes_ = std::max(scratch_bytes_, layout_.max_scratch_bytes(chunk));
    }
    // Two messages, used in turn: what came in one stage's exchange goes out, as it is or summed, in the next.
    lane_bytes_ = 2 * message_bytes_ + scratch_bytes_;
  }

  [[nodiscard]] int stages() const noexcept override { return 2 * size_ - 1; }
  [[nodiscard]] int segments() const noexcept override { return layout_.segments(); }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept override {
    return lane_bytes_ * static_cast<std::size_t>(lanes());
  }

  [[nodiscard]] Work run_stage(int stage, int segment) override {
    if (stage < size_) return reduce(stage, segment);
    return pass_on(stage, segment);
  }

 private:
  [[nodiscard]] Bytes message(int segment, std::size_t which) const {
    return lane(segment, lane_bytes_).slice(which * message_bytes_, message_bytes_);
  }
  /// The chunk that reaches this rank before `stage`.
  [[nodiscard]] int chunk_at(int stage) const noexcept { return ((rank_ - stage) % size_ + size_) % size_; }
  /// In all stages up to n-1 a message comes in in buffer 1 and goes out in buffer 0; from then on they take turns.
  [[nodiscard]] std::size_t incoming(int stage) const noexcept {
    return stage < size_ ? 1 : static_cast<std::size_t>((stage - size_ + 1) % 2);
  }

  Work reduce(int stage, int segment) {
    const auto pieces = layout_.pieces(chunk_at(stage), segment);
    const Bytes out = message(segment, 0);
    std::size_t size = 0;
    if (!pieces.empty()) {
      const MessageId id{stage, segment};
      if (stage == 0 && size_ > 1) {
        size = pack_input(op_, id, pieces, out);
      } else {
        const Sums sums(op_, lane(segment, lane_bytes_).slice(2 * message_bytes_, scratch_bytes_));
        sums.load(pieces);
        if (stage > 0) {
          unpack_into_sums(op_, {{stage - 1, segment}, pieces, message(segment, 1), left(), nullptr, stage > 1}, sums,
                           Write::add);
        }
        size = pack_sums(op_, id, pieces, sums, out);
        if (stage == size_ - 1) publish(op_, id, pieces, out, sums);
      }
    }
    return exchange(stage, segment, size, 0);
  }

  Work pass_on(int stage, int segment) {
    const auto pieces = layout_.pieces(chunk_at(stage), segment);
    const std::size_t arrived = incoming(stage);
    std::size_t size = 0;
    if (!pieces.empty()) {
      const Bytes bytes = message(segment, arrived);
      unpack_into_results(op_, {{stage - 1, segment}, pieces, bytes, left(), nullptr, true});
      size = restamp(op_, {stage, segment}, pieces, bytes);
    }
    return stage == stages() - 1 ? Work{} : exchange(stage, segment, size, arrived);
  }

  Work exchange(int stage, int segment, std::size_t size, std::size_t outgoing) {
    if (size_ == 1) return {};
    std::array<Send, 1> sends{Send{message(segment, outgoing).slice(0, size), (rank_ + 1) % size_}};
    const auto theirs = layout_.pieces(chunk_at(stage + 1), segment);
    std::array<Recv, 1> recvs{Recv{arriving(op_, theirs, message(segment, 1 - outgoing), stage > 0), left()}};
    const bool sending = size > 0;
    const bool receiving = !theirs.empty();
    return op_.exchange(std::span(sends).first(sending ? 1 : 0), std::span(recvs).first(receiving ? 1 : 0));
  }

  [[nodiscard]] int left() const noexcept { return (rank_ + size_ - 1) % size_; }

  Layout layout_;
  int rank_;
  int size_;
  std::size_t message_bytes_ = 0;
  std::size_t scratch_bytes_ = 0;
  std::size_t lane_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Algorithm> make_ring(Operation& op, std::size_t segment_bytes) {
  return std::make_unique<Ring>(op, segment_bytes);
}

}  // namespace gradwire
