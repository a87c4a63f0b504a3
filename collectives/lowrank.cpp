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

#include "collectives/lowrank_bases.hpp"
#include "collectives/round.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire {
namespace {

class LowRankSum final : public Algorithm {
 public:
  LowRankSum(Operation& op, std::size_t segment_bytes)
      : Algorithm(op),
        memory_(op.items, op.inner && !op.inner->traits().lossless, op.space),
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
    const std::size_t matrices = memory_.matrices().size();
    orthonormalise_jobs_.reserve(2 * matrices);
    times_jobs_.reserve(matrices);
    transposed_jobs_.reserve(matrices);
    expand_jobs_.reserve(matrices);
    if (!op_.on_device()) host_flags_.resize(matrices);
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

  /// The warm start of the next run. Only now, when no rank can have failed: all ranks keep the same.
  void settle(bool succeeded) override {
    if (!succeeded || memory_.matrices().empty() || !plan_renews_bases()) return;
    const Move move = plan_.back();
    const Move next = move == Move::left ? Move::right : Move::left;
    bases_.keep({op_.step, 1, static_cast<std::uint32_t>(next)}, keeps_left(), keeps_right());
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

  [[nodiscard]] Tensor floats(float* first, std::size_t count) const noexcept {
    return {first, count, DType::f32, op_.space};
  }

  /// Afterwards, with orthonormalise(): factors of one run of products, or two.
  void add_factor(const Matrix& matrix, const Factor& factor, std::uint64_t draw) {
    orthonormalise_jobs_.push_back({factor, shared_key(op_, matrix, op_.step, draw)});
  }
  void orthonormalise() {
    ops::orthonormalise(orthonormalise_jobs_, memory_.scratch(), op_.space, op_.stream);
    orthonormalise_jobs_.clear();
  }

  void begin_run() {
    memory_.set_workspace(workspace_);
    bases_.seed();
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
      const Factor moving = moving_factor(matrix, move);
      round->buffers(i) = {floats(moving.data, moving.count()), {}};
      if (last && matrix.lossy) round->buffers(i).residual = floats(memory_.lost(matrix), moving.count());
    }
    if (!op_.verdict && move != Move::dense) multiply(move, number);
    round->begin(memory_.round());
    return Work(round);
  }

  [[nodiscard]] Factor moving_factor(const Matrix& matrix, Move move) const {
    return matrix.moves_left(move) ? memory_.left(matrix) : memory_.right(matrix);
  }

  /// The moving factors of this rank's matrices, on the bases that the last round or an earlier run has left.
  void multiply(Move move, std::size_t number) {
    const Stopwatch watch(op_.stats.encode_us);
    times_jobs_.clear();
    transposed_jobs_.clear();
    for (const Matrix& matrix : memory_.matrices()) {
      if (number == 0 && matrix.staged) {
        ops::convert(op_.buffers[matrix.item].tensor, floats(data(matrix), op_.items[matrix.item].count), op_.stream);
      }
      const bool leftwards = matrix.moves_left(move);
      const Factor basis = basis_of(matrix, leftwards, number);
      if (number > 0) add_factor(matrix, basis, number);
      const auto [rows, cols] = matrix.view;
      (leftwards ? times_jobs_ : transposed_jobs_)
          .push_back({data(matrix), rows, cols, basis.data, matrix.rank, moving_factor(matrix, move).data});
    }
    orthonormalise();
    ops::times(times_jobs_, op_.space, op_.stream);
    ops::transposed_times(transposed_jobs_, op_.space, op_.stream);
    if (number + 1 < plan_.size() || op_.size() == 1) return;
    for (const Matrix& matrix : memory_.matrices()) {
      const Factor moving = moving_factor(matrix, move);
      ops::copy(floats(moving.data, moving.count()), floats(memory_.mine(matrix), moving.count()), op_.stream);
    }
  }

  [[nodiscard]] Factor basis_of(const Matrix& matrix, bool leftwards, std::size_t number) const {
    if (leftwards) return number == 0 ? bases_.right(matrix) : memory_.right(matrix);
    return number == 0 ? bases_.left(matrix) : memory_.left(matrix);
  }

  void finish() {
    const Stopwatch watch(op_.stats.decode_us);
    if (!op_.verdict) expand();
    if (!op_.verdict && plan_renews_bases()) prepare_bases();
  }

  void expand() {
    expand_jobs_.clear();
    std::fill(host_flags_.begin(), host_flags_.end(), 0u);
    const std::span<const Matrix> matrices = memory_.matrices();
    for (std::size_t i = 0; i < matrices.size(); ++i) {
      std::uint32_t* const flag = op_.on_device() ? op_.flag(matrices[i].item) : &host_flags_[i];
      expand_jobs_.push_back({expansion(matrices[i]), flag});
    }
    ops::expand(expand_jobs_, op_.space, op_.stream);
    for (std::size_t i = 0; i < host_flags_.size(); ++i) {
      if (host_flags_[i] != 0) op_.refuse({Errc::non_finite, kNobody, op_.items[matrices[i].item].param});
    }
    for (const Matrix& matrix : matrices) {
      if (!op_.verdict && matrix.staged) round_result(matrix, op_.buffers[matrix.item]);
    }
  }

  [[nodiscard]] kernels::Expand expansion(const Matrix& matrix) const {
    const bool leftwards = matrix.moves_left(plan_.back());
    const Factor sum = leftwards ? memory_.left(matrix) : memory_.right(matrix);
    const float* mine = sum.data;
    if (op_.size() > 1) {
      const Tensor sent = floats(memory_.mine(matrix), sum.count());
      if (matrix.lossy) ops::scale_add(floats(memory_.lost(matrix), sum.count()), -1.0F, sent, sent, op_.stream);
      mine = memory_.mine(matrix);
    }
    const float* const basis = basis_of(matrix, leftwards, plan_.size() - 1).data;
    const auto [rows, cols] = matrix.view;
    auto* const residual = static_cast<float*>(op_.buffers[matrix.item].residual.data);
    kernels::Expand job{data(matrix), rows, cols, matrix.rank, basis, basis, basis, basis, residual};
    (leftwards ? job.left_sum : job.right_sum) = sum.data;
    (leftwards ? job.left_mine : job.right_mine) = mine;
    return job;
  }

  /// To 16 bits; one rank owes what that loses, each rank for some of the items.
  void round_result(const Matrix& matrix, const ItemBuffers& buffers) const {
    const Tensor wide = floats(memory_.staged(matrix), buffers.tensor.count);
    ops::convert(wide, buffers.tensor, op_.stream);
    const auto owner = static_cast<int>(matrix.item % static_cast<std::size_t>(op_.size()));
    if (buffers.residual.data == nullptr || owner != op_.rank()) return;
    ops::add(wide, buffers.residual, op_.stream);
    ops::scale_add(buffers.tensor, -1.0F, buffers.residual, buffers.residual, op_.stream);
  }

  [[nodiscard]] bool plan_renews_bases() const { return plan_.back() == Move::left || plan_.back() == Move::right; }
  [[nodiscard]] bool keeps_left() const { return plan_.back() == Move::left || projection_; }
  [[nodiscard]] bool keeps_right() const { return plan_.back() == Move::right; }

  /// What settle() keeps, in the place of what it kept before the last run.
  void prepare_bases() {
    constexpr std::uint64_t kDraw = 64;  // rounds draw below
    const Tensor left = bases_.next_left();
    const Tensor right = bases_.next_right();
    if (keeps_left()) ops::copy(memory_.all_left(), left, op_.stream);
    if (keeps_right()) ops::copy(memory_.all_right(), right, op_.stream);
    for (const Matrix& m : memory_.matrices()) {
      if (keeps_right()) add_factor(m, {static_cast<float*>(right.data) + m.right_first, m.view.cols, m.rank}, kDraw);
      if (keeps_left()) add_factor(m, {static_cast<float*>(left.data) + m.left_first, m.view.rows, m.rank}, kDraw);
    }
    orthonormalise();
  }

  LowRankMemory memory_;
  bool projection_;
  std::size_t max_rounds_;
  std::shared_ptr<ReductionRound> rounds_[kMoves];
  LowRankBases bases_;
  std::vector<Move> plan_;  // rounds of the run under way
  std::vector<kernels::OrthonormaliseJob> orthonormalise_jobs_;
  std::vector<kernels::MatrixTimes> times_jobs_;
  std::vector<kernels::MatrixTimes> transposed_jobs_;
  std::vector<kernels::ExpandJob> expand_jobs_;
  std::vector<std::uint32_t> host_flags_;  // by matrix: of results with NaN or Inf
};

}  // namespace

std::unique_ptr<Algorithm> make_lowrank(Operation& op, std::size_t segment_bytes) {
  return std::make_unique<LowRankSum>(op, segment_bytes);
}

}  // namespace gradwire
