#pragma once
#include <filesystem>

#include "train/state_file.hpp"
#include "train/step_engine.hpp"

namespace gradwire {

/// What one rank saves and loads as a whole.
class Checkpointed {
 public:
  virtual ~Checkpointed() = default;
  /// Throws Errc::invalid_argument for two parameters of one name.
  [[nodiscard]] virtual SavedState save() = 0;
  /// Throws Errc::bad_state naming all differences between what was saved and what there is.
  virtual void check(const SavedState& state) = 0;
  /// Takes up a state that check() accepts. Throws Errc::bad_state, with some of it taken up, where bytes are not what
  /// they are said to be: only a file made by other means than save() has such.
  virtual void take_up(const SavedState& state) = 0;
};

/// All that a step engine keeps from step to step, on this rank. It differs from what was saved where parameters are
/// missing or new, have other shapes, dtypes or rules, or sums are wanted instead of means.
class EngineState final : public Checkpointed {
 public:
  EngineState(StepEngine& engine, const Communicator& comm, bool average)
      : engine_(engine), rank_(comm.rank()), ranks_(comm.size()), average_(average) {}
  [[nodiscard]] SavedState save() override;
  void check(const SavedState& state) override;
  void take_up(const SavedState& state) override;

 private:
  StepEngine& engine_;
  int rank_;
  int ranks_;
  bool average_;
};

/// The state in `folder` as rank `rank` of `ranks` is to take it up. Where as many ranks saved it, it is the rank's own
/// file. Otherwise every rank reads all files: what ranks owed (residuals) or held as parts of a sum (estimates,
/// momenta) is summed and shared out in equal parts, so that the sum over ranks stays; what was the same on all ranks
/// stays. Throws Errc::io and Errc::bad_state as read_state does, and Errc::bad_state where files are of different
/// steps or parameters.
[[nodiscard]] SavedState gather_state(const std::filesystem::path& folder, int rank, int ranks);

/// Writes this rank's file in `folder`. Throws what write_state throws.
void save_in(const std::filesystem::path& folder, const SavedState& state);

/// Collective: takes up what lies in `folder`, on all ranks or on none. Throws Errc::rank_mismatch where another rank
/// could not or read another step, and what gather_state() and the target throw.
void load_together(const Communicator& comm, Deadline deadline, Checkpointed& target,
                   const std::filesystem::path& folder);

}  // namespace gradwire
