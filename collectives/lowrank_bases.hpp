#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "collectives/lowrank_memory.hpp"
#include "collectives/operation.hpp"

#include "gradwire/buffer.hpp"

namespace gradwire {

/// Random numbers that are the same on all ranks; `draw` tells uses of them in one step apart.
[[nodiscard]] RandomKey shared_key(const Operation& op, const Matrix& matrix, std::uint64_t step, std::uint64_t draw);

/// The warm starts of `lowrank`: orthonormal bases kept from run to run, the same on all ranks. Of each matrix one for
/// its right side; for schemes in which a run may begin with either side, one for its left side, too.
///
/// Columns are in order: an orthogonalisation never changes the span of the first j columns, whatever j is, and neither
/// does a multiplication. So the first j columns of a basis are what a run of rank j would have come to, up to rounding
/// and what lossy factors do, and turn towards the j leading singular vectors. Cold starts are nested like that as
/// well.
class LowRankBases {
 public:
  /// What belongs to a matrix beside its bases; in front of them in save().
  struct Head {
    std::uint64_t basis_step = 0;  ///< the step that they are of
    std::uint32_t has_basis = 0;   ///< 1: of a run; 0: the right one is all there is, and a cold start
    std::uint32_t turn = 0;        ///< the Move that is next with rounds=1: left or right
  };

  LowRankBases(const Operation& op, const LowRankMemory& memory);

  [[nodiscard]] Factor left(const Matrix& m) const noexcept;
  [[nodiscard]] Factor right(const Matrix& m) const noexcept;
  [[nodiscard]] bool has_left() const noexcept { return left_.current.size() > 0; }

  /// Before a run: cold starts for matrices that have no warm one.
  void seed();
  /// What holds for a run over all matrices, which may have come from several operations: the oldest step, a basis only
  /// where all have one, and the right side's turn only where it is that of all. (A right basis is always there.)
  [[nodiscard]] Head common() const noexcept;
  /// In a run: room for what will be kept of it, if it succeeds.
  [[nodiscard]] Tensor next_left() const noexcept { return left_.next.tensor(memory_.left_elems()); }
  [[nodiscard]] Tensor next_right() const noexcept { return right_.next.tensor(memory_.right_elems()); }
  /// After it: that is kept, of the sides named.
  void keep(const Head& head, bool left, bool right) noexcept;

  /// Algorithm::memory and set_memory.
  [[nodiscard]] std::string save(std::size_t item) const;
  void restore(std::size_t item, std::string_view memory, const Compressor& from);

 private:
  struct Place {
    Head head;
    bool seeded = false;
  };
  struct Side {
    Buffer current;
    Buffer next;

    Side(std::size_t elems, Space space);
  };

  [[nodiscard]] const Matrix* find(std::size_t item) const;
  [[nodiscard]] Place& place_of(const Matrix& matrix);

  const Operation& op_;
  const LowRankMemory& memory_;
  Side left_;
  Side right_;
  std::vector<Place> places_;  // by matrix
};

}  // namespace gradwire
