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

#include <algorithm>
#include <cstring>

#include "base/fail.hpp"
#include "collectives/round.hpp"
#include "compress/factor_ops.hpp"
#include "compress/frame.hpp"
#include "compress/vector_ops.hpp"

#include "gradwire/buffer.hpp"

namespace gradwire {
namespace {

enum class Move : std::uint8_t { left, right, shorter, dense };
constexpr std::size_t kMoves = 4;
constexpr std::size_t kAlignElems = 32;  // factors begin at cache lines of their own

std::size_t align_elems(std::size_t count) { return (count + kAlignElems - 1) / kAlignElems * kAlignElems; }

/// Memory for one kind of thing of every matrix, end to end.
struct Region {
  std::size_t elems = 0;

  std::size_t add(std::size_t count) {
    const std::size_t first = elems;
    elems += align_elems(count);
    return first;
  }
};

/// One item, and where its parts lie in the regions.
struct Matrix {
  std::size_t item;
  MatrixView view;
  std::size_t rank;
  bool lossy = false;  // its factors' frames
  bool staged = false;
  std::size_t left_first = 0;
  std::size_t right_first = 0;
  std::size_t mine_first = 0;  // also of the round's residual
  std::size_t staged_first = 0;

  [[nodiscard]] bool moves_left(Move move) const noexcept {
    return move == Move::left || (move == Move::shorter && view.rows <= view.cols);
  }
};

class LowRankSum final : public Algorithm {
 public:
  LowRankSum(Operation& op, std::size_t segment_bytes) : Algorithm(op) {
    for (std::size_t i = 0; i < op.items.size(); ++i) {
      if (op.items[i].count > 0) add_matrix(i);
    }
    if (!matrices_.empty()) scheme_ = *op.items[matrices_.front().item].compressor.low_rank();
    const bool both = scheme_.kind == LowRank::Kind::projection || scheme_.rounds == 2;
    max_rounds_ = both ? 2 * scheme_.iterations : 1;
    plan_.reserve(max_rounds_);
    make_round(Move::left, segment_bytes);
    make_round(Move::right, segment_bytes);
    if (scheme_.kind == LowRank::Kind::projection) make_round(Move::shorter, segment_bytes);
    if (scheme_.start > 0) make_round(Move::dense, segment_bytes);
    kept_left_ = zeros(scheme_.rounds == 1 || scheme_.kind == LowRank::Kind::projection ? left_.elems : 0);
    kept_right_ = zeros(right_.elems);
    lay_out_workspace();
  }

  [[nodiscard]] int stages() const noexcept override { return static_cast<int>(max_rounds_) + 1; }
  [[nodiscard]] int segments() const noexcept override { return 1; }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept override { return workspace_bytes_; }

  [[nodiscard]] Work run_stage(int stage, int) override {
    const auto round = static_cast<std::size_t>(stage);
    if (round == 0) plan_run();
    if (round > plan_.size()) return {};
    if (round > 0) this->round(plan_[round - 1])->end();
    if (round < plan_.size()) return begin_round(round);
    if (plan_.back() != Move::dense) finish();
    return {};
  }

 private:
  void add_matrix(std::size_t i) {
    const BucketItem& item = op_.items[i];
    const LowRank& scheme = *item.compressor.low_rank();
    Matrix matrix{.item = i, .view = matrix_view(item.shape), .rank = 0};
    if (!matrix.view.is_matrix()) {
      fail(Errc::unsupported, "algorithm 'lowrank' cannot carry {}, which is no matrix: its shape has {} dimensions",
           item.name, std::max<std::size_t>(item.shape.size(), 1));
    }
    if (!matrices_.empty()) {
      const std::string first = op_.items[matrices_.front().item].compressor.low_rank()->schedule();
      if (scheme.schedule() != first) {
        fail(Errc::unsupported, "algorithm 'lowrank' cannot carry {} ({}) in one bucket with {} ({})", item.name,
             scheme.schedule(), op_.items[matrices_.front().item].name, first);
      }
    }
    matrix.rank = scheme.rank_for(matrix.view);
    matrix.lossy = !make_compressor(scheme.factors).traits().lossless;
    matrix.staged = item.dtype != DType::f32;
    matrix.left_first = left_.add(matrix.view.rows * matrix.rank);
    matrix.right_first = right_.add(matrix.view.cols * matrix.rank);
    const std::size_t longer = std::max(matrix.view.rows, matrix.view.cols);
    matrix.mine_first = mine_.add(longer * matrix.rank);
    if (matrix.staged) matrix.staged_first = staged_.add(item.count);
    any_lossy_ = any_lossy_ || matrix.lossy;
    scratch_bytes_ = std::max(scratch_bytes_, ops::orthonormalise_scratch_bytes(longer, matrix.rank));
    matrices_.push_back(matrix);
  }

  void make_round(Move move, std::size_t segment_bytes) {
    std::vector<BucketItem> items;
    for (const Matrix& matrix : matrices_) {
      const BucketItem& outer = op_.items[matrix.item];
      BucketItem item{outer.param, outer.count, outer.dtype, make_compressor("none"), outer.name};
      if (move != Move::dense) {
        item.count = (matrix.moves_left(move) ? matrix.view.rows : matrix.view.cols) * matrix.rank;
        item.dtype = DType::f32;
        item.compressor = make_compressor(outer.compressor.low_rank()->factors);
      }
      items.push_back(std::move(item));
    }
    auto& made = rounds_[static_cast<std::size_t>(move)];
    made = std::make_shared<Round>(op_, std::move(items), static_cast<std::uint64_t>(move) + 1, segment_bytes);
    round_bytes_ = std::max(round_bytes_, made->workspace_bytes());
  }

  void lay_out_workspace() {
    std::size_t bytes = 0;
    const auto take = [&](std::size_t size) {
      const std::size_t first = bytes;
      bytes += (size + kScratchAlign - 1) / kScratchAlign * kScratchAlign;
      return first;
    };
    left_byte_ = take(left_.elems * sizeof(float));
    right_byte_ = take(right_.elems * sizeof(float));
    mine_byte_ = take(mine_.elems * sizeof(float));
    lost_byte_ = take(any_lossy_ ? mine_.elems * sizeof(float) : 0);
    staged_byte_ = take(staged_.elems * sizeof(float));
    scratch_byte_ = take(scratch_bytes_);
    round_byte_ = take(round_bytes_);
    workspace_bytes_ = bytes + kScratchAlign;
  }

  static Buffer zeros(std::size_t elems) {
    Buffer buffer(elems * sizeof(float));
    buffer.fill_zero();
    return buffer;
  }

  [[nodiscard]] const std::shared_ptr<Round>& round(Move move) const { return rounds_[static_cast<std::size_t>(move)]; }
  /// The workspace from its first aligned byte on: scratch holds doubles.
  [[nodiscard]] std::byte* at(std::size_t byte) const noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(workspace_.data);
    return workspace_.data + (kScratchAlign - address % kScratchAlign) % kScratchAlign + byte;
  }
  [[nodiscard]] float* floats(std::size_t byte, std::size_t elem) const noexcept {
    return reinterpret_cast<float*>(at(byte)) + elem;
  }
  [[nodiscard]] Factor left(const Matrix& matrix) const {
    return {floats(left_byte_, matrix.left_first), matrix.view.rows, matrix.rank};
  }
  [[nodiscard]] Factor right(const Matrix& matrix) const {
    return {floats(right_byte_, matrix.right_first), matrix.view.cols, matrix.rank};
  }
  [[nodiscard]] Factor kept_left(const Matrix& matrix) const {
    return {reinterpret_cast<float*>(kept_left_.data()) + matrix.left_first, matrix.view.rows, matrix.rank};
  }
  [[nodiscard]] Factor kept_right(const Matrix& matrix) const {
    return {reinterpret_cast<float*>(kept_right_.data()) + matrix.right_first, matrix.view.cols, matrix.rank};
  }
  [[nodiscard]] float* matrix_data(const Matrix& matrix) const {
    if (matrix.staged) return floats(staged_byte_, matrix.staged_first);
    return static_cast<float*>(op_.buffers[matrix.item].tensor.data);
  }

  /// The same random numbers on all ranks; `draw` tells uses of them in one step apart.
  [[nodiscard]] RandomKey shared_key(const Matrix& matrix, std::uint64_t step, std::uint64_t draw) const {
    constexpr std::uint64_t kShared = 0x6c6f'7772'616e'6b00;
    return {op_.seed ^ (kShared + draw), step, op_.items[matrix.item].param, 0};
  }

  void plan_run() {
    plan_.clear();
    const bool projection = scheme_.kind == LowRank::Kind::projection;
    if (op_.step < scheme_.start) {
      plan_.push_back(Move::dense);
    } else if (scheme_.rounds == 1) {
      plan_.push_back(turn_ == Move::left ? Move::left : Move::right);
    } else if (projection && has_basis_ && op_.step >= basis_step_ && op_.step - basis_step_ < scheme_.refresh) {
      plan_.push_back(Move::shorter);
    } else {
      for (std::uint32_t i = 0; i < scheme_.iterations; ++i) plan_.insert(plan_.end(), {Move::left, Move::right});
    }
    if (!seeded_) seed_bases();
  }

  /// Where there is no warm start yet.
  void seed_bases() {
    for (const Matrix& matrix : matrices_) {
      const RandomKey key = shared_key(matrix, 0, 0);
      ops::fill_random(kept_right(matrix), key);
      ops::orthonormalise(kept_right(matrix), at(scratch_byte_), key);
    }
    seeded_ = true;
  }

  Work begin_round(std::size_t number) {
    const Move move = plan_[number];
    const std::shared_ptr<Round>& round = this->round(move);
    if (move == Move::dense) {
      for (std::size_t i = 0; i < matrices_.size(); ++i) round->buffers(i) = op_.buffers[matrices_[i].item];
    } else {
      const Stopwatch watch(op_.stats.encode_us);
      const bool last = number + 1 == plan_.size();
      for (std::size_t i = 0; i < matrices_.size(); ++i) {
        const Matrix& matrix = matrices_[i];
        const Factor moving = matrix.moves_left(move) ? left(matrix) : right(matrix);
        if (!op_.verdict) multiply(matrix, move, number);
        if (!op_.verdict && last && op_.size() > 1) {
          std::memcpy(floats(mine_byte_, matrix.mine_first), moving.data, moving.count() * sizeof(float));
        }
        round->buffers(i) = {{moving.data, moving.count()}, {}};
        if (last && matrix.lossy) round->buffers(i).residual = {floats(lost_byte_, matrix.mine_first), moving.count()};
      }
    }
    round->begin({at(round_byte_), round_bytes_, workspace_.space});
    return Work(round);
  }

  /// The moving factor of this rank's matrix, on the basis that the last round or an earlier run has left.
  void multiply(const Matrix& matrix, Move move, std::size_t number) {
    if (number == 0 && matrix.staged) {
      ops::convert(op_.buffers[matrix.item].tensor, {matrix_data(matrix), op_.items[matrix.item].count});
    }
    if (number > 0) {
      const Factor arrived = matrix.moves_left(move) ? right(matrix) : left(matrix);
      ops::orthonormalise(arrived, at(scratch_byte_), shared_key(matrix, op_.step, number));
    }
    const float* const basis = basis_of(matrix, move, number).data;
    const auto [rows, cols] = matrix.view;
    if (matrix.moves_left(move)) {
      ops::times({matrix_data(matrix), rows, cols, basis, matrix.rank, left(matrix).data});
    } else {
      ops::transposed_times({matrix_data(matrix), rows, cols, basis, matrix.rank, right(matrix).data});
    }
  }

  [[nodiscard]] Factor basis_of(const Matrix& matrix, Move move, std::size_t number) const {
    if (matrix.moves_left(move)) return number == 0 ? kept_right(matrix) : right(matrix);
    return number == 0 ? kept_left(matrix) : left(matrix);
  }

  void finish() {
    const Stopwatch watch(op_.stats.decode_us);
    for (const Matrix& matrix : matrices_) {
      if (!op_.verdict) expand(matrix);
    }
    if (!op_.verdict) keep_bases();
  }

  void expand(const Matrix& matrix) {
    const Move move = plan_.back();
    const std::size_t number = plan_.size() - 1;
    const bool leftwards = matrix.moves_left(move);
    const Factor sum = leftwards ? left(matrix) : right(matrix);
    const float* mine = sum.data;
    if (op_.size() > 1) {
      float* const sent = floats(mine_byte_, matrix.mine_first);
      const ConstTensor lost(floats(lost_byte_, matrix.mine_first), sum.count());
      if (matrix.lossy) ops::scale_add(lost, -1.0F, sent, sent);
      mine = sent;
    }
    const float* const basis = basis_of(matrix, move, number).data;
    const ItemBuffers& buffers = op_.buffers[matrix.item];
    auto* const residual = static_cast<float*>(buffers.residual.data);
    kernels::Expand job{
        matrix_data(matrix), matrix.view.rows, matrix.view.cols, matrix.rank, basis, basis, basis, basis, residual};
    (leftwards ? job.left_sum : job.right_sum) = sum.data;
    (leftwards ? job.left_mine : job.right_mine) = mine;
    if (!ops::expand(job)) return op_.refuse({Errc::non_finite, kNobody, op_.items[matrix.item].param});
    if (matrix.staged) round_result(matrix, buffers);
  }

  /// To 16 bits; one rank owes what that loses, each rank for some of the items.
  void round_result(const Matrix& matrix, const ItemBuffers& buffers) const {
    const float* const wide = matrix_data(matrix);
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
    const bool projection = scheme_.kind == LowRank::Kind::projection;
    for (const Matrix& matrix : matrices_) {
      if (move == Move::right) keep(matrix, right(matrix), kept_right(matrix));
      if (move == Move::left || projection) keep(matrix, left(matrix), kept_left(matrix));
    }
    turn_ = move == Move::left ? Move::right : Move::left;
    has_basis_ = true;
    basis_step_ = op_.step;
  }

  void keep(const Matrix& matrix, const Factor& from, const Factor& to) const {
    std::memcpy(to.data, from.data, from.count() * sizeof(float));
    ops::orthonormalise(to, at(scratch_byte_), shared_key(matrix, op_.step, kMaxRounds));
  }

  static constexpr std::size_t kScratchAlign = 128;
  static constexpr std::uint64_t kMaxRounds = 64;

  std::vector<Matrix> matrices_;
  LowRank scheme_;  // as far as all items share it
  std::size_t max_rounds_ = 0;
  Region left_, right_, mine_, staged_;
  bool any_lossy_ = false;
  std::shared_ptr<Round> rounds_[kMoves];
  std::size_t scratch_bytes_ = 0;
  std::size_t round_bytes_ = 0;
  // Where the regions lie in the workspace.
  std::size_t left_byte_ = 0;
  std::size_t right_byte_ = 0;
  std::size_t mine_byte_ = 0;
  std::size_t lost_byte_ = 0;
  std::size_t staged_byte_ = 0;
  std::size_t scratch_byte_ = 0;
  std::size_t round_byte_ = 0;
  std::size_t workspace_bytes_ = 0;
  // From run to run: orthonormal bases, the same on all ranks.
  Buffer kept_left_;
  Buffer kept_right_;
  bool seeded_ = false;
  Move turn_ = Move::left;
  bool has_basis_ = false;
  std::uint64_t basis_step_ = 0;
  // Of the run under way.
  std::vector<Move> plan_;
};

}  // namespace

std::unique_ptr<Algorithm> make_lowrank(Operation& op, std::size_t segment_bytes) {
  return std::make_unique<LowRankSum>(op, segment_bytes);
}

}  // namespace gradwire
