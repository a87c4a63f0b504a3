#pragma once
#include <span>
#include <vector>

#include "compress/factor_ops.hpp"

#include "gradwire/allreduce.hpp"

namespace gradwire {

/// What a round of the algorithm `lowrank` sums.
enum class Move : std::uint8_t {
  left,     ///< left factors
  right,    ///< right factors
  shorter,  ///< of each matrix the factor of its shorter side
  dense,    ///< the matrices themselves
};
inline constexpr std::size_t kMoves = 4;

/// One item that has elements: its shape, and where its parts lie (LowRankMemory).
struct Matrix {
  std::size_t item = 0;
  MatrixView view;
  std::size_t rank = 0;
  bool lossy = false;   ///< what a round makes of its factors
  bool staged = false;  ///< a 16-bit tensor, worked on as f32
  std::size_t left_first = 0;
  std::size_t right_first = 0;
  std::size_t mine_first = 0;
  std::size_t staged_first = 0;

  [[nodiscard]] bool moves_left(Move move) const noexcept {
    return move == Move::left || (move == Move::shorter && view.rows <= view.cols);
  }
};

/// The matrices of a bucket, and the workspace cut up between them: their factors, what this rank contributed to the
/// last round and what that round lost, 16-bit tensors as f32, scratch, and the memory of a round.
class LowRankMemory {
 public:
  /// Throws Errc::unsupported for an item that is no matrix, and for schemes of different schedules.
  /// `lossy_rounds`: a round loses some of a factor whatever its frames.
  LowRankMemory(std::span<const BucketItem> items, bool lossy_rounds, Space space);

  [[nodiscard]] std::span<const Matrix> matrices() const noexcept { return matrices_; }
  /// As far as all items share it: kind, iterations, rounds, start, refresh.
  [[nodiscard]] const LowRank& scheme() const noexcept { return scheme_; }
  /// Floats that hold the left, or the right, factors of all matrices, each at its left_first or right_first.
  [[nodiscard]] std::size_t left_elems() const noexcept { return left_elems_; }
  [[nodiscard]] std::size_t right_elems() const noexcept { return right_elems_; }

  /// Once: `round_bytes` is the most that any round needs.
  void lay_out(std::size_t round_bytes);
  [[nodiscard]] std::size_t workspace_bytes() const noexcept { return workspace_bytes_; }
  void set_workspace(Bytes workspace) noexcept;

  [[nodiscard]] Factor left(const Matrix& m) const noexcept {
    return {floats(left_) + m.left_first, m.view.rows, m.rank};
  }
  [[nodiscard]] Factor right(const Matrix& m) const noexcept {
    return {floats(right_) + m.right_first, m.view.cols, m.rank};
  }
  /// Those of all matrices.
  [[nodiscard]] Tensor all_left() const noexcept { return {floats(left_), left_elems_, DType::f32, space_}; }
  [[nodiscard]] Tensor all_right() const noexcept { return {floats(right_), right_elems_, DType::f32, space_}; }
  /// Room for the longer of the two factors.
  [[nodiscard]] float* mine(const Matrix& m) const noexcept { return floats(mine_) + m.mine_first; }
  [[nodiscard]] float* lost(const Matrix& m) const noexcept { return floats(lost_) + m.mine_first; }
  [[nodiscard]] float* staged(const Matrix& m) const noexcept { return floats(staged_) + m.staged_first; }
  /// For orthogonalisations on hosts.
  [[nodiscard]] std::byte* scratch() const noexcept { return base_.data + scratch_; }
  [[nodiscard]] Bytes round() const noexcept { return base_.slice(round_, round_bytes_); }

 private:
  void add(std::span<const BucketItem> items, std::size_t i);
  [[nodiscard]] float* floats(std::size_t byte) const noexcept { return reinterpret_cast<float*>(base_.data + byte); }

  bool lossy_rounds_;
  Space space_;
  std::vector<Matrix> matrices_;
  LowRank scheme_;
  std::size_t left_elems_ = 0;
  std::size_t right_elems_ = 0;
  std::size_t mine_elems_ = 0;
  std::size_t lost_elems_ = 0;
  std::size_t staged_elems_ = 0;
  std::size_t scratch_bytes_ = 0;
  std::size_t round_bytes_ = 0;
  std::size_t workspace_bytes_ = 0;
  // First bytes in the workspace.
  std::size_t left_ = 0;
  std::size_t right_ = 0;
  std::size_t mine_ = 0;
  std::size_t lost_ = 0;
  std::size_t staged_ = 0;
  std::size_t scratch_ = 0;
  std::size_t round_ = 0;
  Bytes base_;  // aligned
};

}  // namespace gradwire
