#pragma once
#include <filesystem>

#include "train/state_file.hpp"
#include "train/step_engine.hpp"

namespace gradwire {

/// All that `engine` keeps from step to step, on this rank. Throws Errc::invalid_argument for two parameters of one
/// name.
[[nodiscard]] SavedState save_engine(StepEngine& engine, int rank, int ranks, bool average);

/// The state in `folder` as rank `rank` of `ranks` is to take it up. Where as many ranks saved it, it is the rank's own
/// file. Otherwise every rank reads all files: what ranks owed (residuals) or held as parts of a sum (estimates,
/// momenta) is summed and shared out in equal parts, so that the sum over ranks stays; what was the same on all ranks
/// stays. Throws Errc::io and Errc::bad_state as read_state does, and Errc::bad_state where files are of different
/// steps or parameters.
[[nodiscard]] SavedState gather_state(const std::filesystem::path& folder, int rank, int ranks);

/// Throws Errc::bad_state naming all differences between what was saved and what the engine has: missing and new
/// parameters, other shapes, dtypes or rules, a sum instead of a mean.
void check_state(const SavedState& state, const StepEngine& engine, bool average);

/// Takes up a state that check_state() accepts. Throws Errc::bad_state, with some of it taken up, where bytes are not
/// what they are said to be: only a file made by other means than save_engine() has such.
void load_engine(StepEngine& engine, const SavedState& state);

/// Collective: takes up what lies in `folder`, on all ranks or on none. Throws Errc::rank_mismatch where another rank
/// could not or read another step, and what save_engine(), gather_state() and check_state() throw.
void load_together(const Communicator& comm, Deadline deadline, StepEngine& engine, const std::filesystem::path& folder,
                   bool average);

}  // namespace gradwire
