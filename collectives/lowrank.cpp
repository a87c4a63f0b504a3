// Low rank: what travels of a matrix M (rows x cols) are factors of r columns, summed over ranks in rounds (round.hpp).
// A round moves the left factor (M B, where B is an orthonormal basis of r columns) or the right one (M^T A, likewise).
// A run is a list of rounds, each of which projects onto the basis that the one before it gave; the first takes the one
// kept from earlier runs (the warm start):
//   powersgd           left, right; as often as `iterations` says
//   powersgd rounds=1  left and right by turns, one a run
//   projection         left, right, as above, where the basis is due for renewal; else only the factor of the shorter
//                      side, on the basis of the longer one
// Stages: one a round (multiply, begin the round), and one that expands the last round's sum. With A the basis of a
// last round that moved right, c the right factor that this rank contributed and R its sum over ranks:
//   result = A R^T,   residual = M - A c^T
// so that the law holds whatever A is. (The paper subtracts the mean result from each rank's matrix: the same in sum.)
// One lossy step; where factors travel in lossy frames, c is what remains of a factor after what the round left as
// residual.
//
// Nothing here may differ between ranks: sums are the same bits on all, and the arithmetic after them has fixed bits
// (compress/factor_ops.hpp), on any machine. What a rank multiplies before a sum is its own affair.

#include <cstring>

#include "collectives/lowrank_bases.hpp"
#include "collectives/round.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire {
namespace {

class LowRankSum final : public Algorithm {
 public:
  LowRankSum(Operation& op, std::size_t segment_bytes)
      : Algorithm(op),
        memory_(op.items, op.inner && !op.inner->traits().lossless),
        projection_(memory_.scheme().kind == LowRank::Kind::projection),
        max_rounds_(memory_.scheme().rounds == 1 ? 1 : std::size_t{2} * memory_.scheme().iterations),
        bases_(op_, memory_) {
    plan_.reserve(max_rounds_);
    std::size_t bytes = 0;
    const auto add = [&](Move move) {
      auto& made = rounds_[static_cast<std::size_t>(move)];
      made = make_round(move, segment_bytes);
      bytes = std::max(bytes, made->workspace_bytes());
    };
    add(Move::left);
    add(Move::right);
    if (projection_) add(Move::shorter);
    if (memory_.scheme().start > 0) add(Move::dense);
    memory_.lay_out(bytes);
  }

  [[nodiscard]] int stages() const noexcept override { return static_cast<int>(max_rounds_) + 1; }
  [[nodiscard]] int segments() const noexcept override { return 1; }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept override { return memory_.workspace_bytes(); }

  [[nodiscard]] Work run_stage(int stage, int) override {
    const auto number = static_cast<std::size_t>(stage);
    if (number == 0) begin_run();
    if (number > plan_.size()) return {};
    if (number > 0) round(plan_[number - 1])->end();
    if (number < plan_.size()) return begin_round(number);
    if (plan_.back() != Move::dense) finish();
    return {};
  }

  [[nodiscard]] std::string memory(std::size_t item) const override { return bases_.save(item); }
  void set_memory(std::size_t item, std::string_view memory, const Compressor& from) override {
    bases_.restore(item, memory, from);
  }

 private:
  [[nodiscard]] std::shared_ptr<ReductionRound> make_round(Move move, std::size_t segment_bytes) {
    std::vector<BucketItem> items;
    for (const Matrix& matrix : memory_.matrices()) {
      const BucketItem& outer = op_.items[matrix.item];
      BucketItem item{outer.param, outer.count, outer.dtype, make_compressor("none"), outer.name};
      if (move != Move::dense) {
        item.count = (matrix.moves_left(move) ? matrix.view.rows : matrix.view.cols) * matrix.rank;
        item.dtype = DType::f32;
        item.compressor = make_compressor(outer.compressor.low_rank()->factors);
      }
      items.push_back(std::move(item));
    }
    return std::make_shared<ReductionRound>(op_, std::move(items), static_cast<std::uint64_t>(move) + 1, segment_bytes);
  }

  [[nodiscard]] const std::shared_ptr<ReductionRound>& round(Move move) const {
    return rounds_[static_cast<std::size_t>(move)];
  }
  [[nodiscard]] float* data(const Matrix& matrix) const {
    return matrix.staged ? memory_.staged(matrix) : static_cast<float*>(op_.buffers[matrix.item].tensor.data);
  }

  void orthonormalise(const Matrix& matrix, const Factor& factor, std::uint64_t draw) const {
    ops::orthonormalise(factor, memory_.scratch(), shared_key(op_, matrix, op_.step, draw));
  }

  void begin_run() {
    memory_.set_workspace(workspace_);
    bases_.seed(memory_.scratch());
    const LowRankBases::Head head = bases_.common();
    const LowRank& scheme = memory_.scheme();
    const bool basis_is_fresh =
        head.has_basis != 0 && op_.step >= head.basis_step && op_.step - head.basis_step < scheme.refresh;
    plan_.clear();
    if (op_.step < scheme.start) {
      plan_.push_back(Move::dense);
    } else if (scheme.rounds == 1) {
      plan_.push_back(static_cast<Move>(head.turn));
    } else if (projection_ && basis_is_fresh) {
      plan_.push_back(Move::shorter);
    } else {
      for (std::uint32_t i = 0; i < scheme.iterations; ++i) plan_.insert(plan_.end(), {Move::left, Move::right});
    }
  }

  Work begin_round(std::size_t number) {
    const Move move = plan_[number];
    const bool last = number + 1 == plan_.size();
    const std::shared_ptr<ReductionRound>& round = this->round(move);
    for (std::size_t i = 0; i < memory_.matrices().size(); ++i) {
      const Matrix& matrix = memory_.matrices()[i];
      if (move == Move::dense) {
        round->buffers(i) = op_.buffers[matrix.item];
        continue;
      }
      const Factor moving = matrix.moves_left(move) ? memory_.left(matrix) : memory_.right(matrix);
      round->buffers(i) = {{moving.data, moving.count()}, {}};
      if (last && matrix.lossy) round->buffers(i).residual = {memory_.lost(matrix), moving.count()};
      if (op_.verdict) continue;
      const Stopwatch watch(op_.stats.encode_us);
      multiply(matrix, move, number);
      if (last && op_.size() > 1) std::memcpy(memory_.mine(matrix), moving.data, moving.count() * sizeof(float));
    }
    round->begin(memory_.round());
    return Work(round);
  }

  /// The moving factor of this rank's matrix, on the basis that the last round or an earlier run has left.
  void multiply(const Matrix& matrix, Move move, std::size_t number) const {
    if (number == 0 && matrix.staged) {
      ops::convert(op_.buffers[matrix.item].tensor, {data(matrix), op_.items[matrix.item].count});
    }
    const bool leftwards = matrix.moves_left(move);
    const Factor basis = basis_of(matrix, leftwards, number);
    if (number > 0) orthonormalise(matrix, basis, number);
    const auto [rows, cols] = matrix.view;
    if (leftwards) {
      ops::times({data(matrix), rows, cols, basis.data, matrix.rank, memory_.left(matrix).data});
    } else {
      ops::transposed_times({data(matrix), rows, cols, basis.data, matrix.rank, memory_.right(matrix).data});
    }
  }

  [[nodiscard]] Factor basis_of(const Matrix& matrix, bool leftwards, std::size_t number) const {
    if (leftwards) return number == 0 ? bases_.right(matrix) : memory_.right(matrix);
    return number == 0 ? bases_.left(matrix) : memory_.left(matrix);
  }

  void finish() {
    const Stopwatch watch(op_.stats.decode_us);
    for (const Matrix& matrix : memory_.matrices()) {
      if (!op_.verdict) expand(matrix);
    }
    if (!op_.verdict) keep_bases();
  }

  void expand(const Matrix& matrix) {
    const bool leftwards = matrix.moves_left(plan_.back());
    const Factor sum = leftwards ? memory_.left(matrix) : memory_.right(matrix);
    const float* mine = sum.data;
    if (op_.size() > 1) {
      float* const sent = memory_.mine(matrix);
      if (matrix.lossy) ops::scale_add(ConstTensor(memory_.lost(matrix), sum.count()), -1.0F, sent, sent);
      mine = sent;
    }
    const ItemBuffers& buffers = op_.buffers[matrix.item];
    const float* const basis = basis_of(matrix, leftwards, plan_.size() - 1).data;
    const auto [rows, cols] = matrix.view;
    kernels::Expand job{
        data(matrix), rows, cols, matrix.rank, basis, basis, basis, basis, static_cast<float*>(buffers.residual.data)};
    (leftwards ? job.left_sum : job.right_sum) = sum.data;
    (leftwards ? job.left_mine : job.right_mine) = mine;
    if (!ops::expand(job)) return op_.refuse({Errc::non_finite, kNobody, op_.items[matrix.item].param});
    if (matrix.staged) round_result(matrix, buffers);
  }

  /// To 16 bits; one rank owes what that loses, each rank for some of the items.
  void round_result(const Matrix& matrix, const ItemBuffers& buffers) const {
    const float* const wide = memory_.staged(matrix);
    const std::size_t count = buffers.tensor.count;
    ops::convert(ConstTensor(wide, count), buffers.tensor);
    const auto owner = static_cast<int>(matrix.item % static_cast<std::size_t>(op_.size()));
    if (buffers.residual.data == nullptr || owner != op_.rank()) return;
    auto* const residual = static_cast<float*>(buffers.residual.data);
    ops::add(wide, residual, count);
    ops::scale_add(buffers.tensor, -1.0F, residual, residual);
  }

  /// The warm start of the next run. Only now, when no rank can have failed: all ranks keep the same.
  void keep_bases() {
    const Move move = plan_.back();
    if (move == Move::shorter) return;
    for (const Matrix& matrix : memory_.matrices()) {
      if (move == Move::right) keep(matrix, memory_.right(matrix), bases_.right(matrix));
      if (move == Move::left || projection_) keep(matrix, memory_.left(matrix), bases_.left(matrix));
    }
    const Move next = move == Move::left ? Move::right : Move::left;
    bases_.mark({op_.step, 1, static_cast<std::uint32_t>(next)});
  }

  void keep(const Matrix& matrix, const Factor& from, const Factor& to) const {
    constexpr std::uint64_t kDraw = 64;  // rounds draw below
    std::memcpy(to.data, from.data, from.count() * sizeof(float));
    orthonormalise(matrix, to, kDraw);
  }

  LowRankMemory memory_;
  bool projection_;
  std::size_t max_rounds_;
  std::shared_ptr<ReductionRound> rounds_[kMoves];
  LowRankBases bases_;
  std::vector<Move> plan_;  // rounds of the run under way
};

}  // namespace

std::unique_ptr<Algorithm> make_lowrank(Operation& op, std::size_t segment_bytes) {
  return std::make_unique<LowRankSum>(op, segment_bytes);
}

}  // namespace gradwire
