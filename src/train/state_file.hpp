#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "gradwire/feedback.hpp"
#include "gradwire/types.hpp"

namespace gradwire {

/// One vector of a rule's state, as stored (StateVector).
struct SavedVector {
  std::string name;
  StateKind kind = StateKind::residual;
  std::string storage;
  std::string bytes;
};

/// What an algorithm keeps of a parameter (PersistentAllreduce::memory), for one of the compressors that its schedule
/// gives it.
struct SavedMemory {
  std::string compressor;
  std::size_t set = 0;  ///< of the step engine's bucket sets: each has operations, and so memories, of its own
  std::string bytes;
};

struct SavedParam {
  std::string name;
  std::vector<std::size_t> shape;
  DType dtype = DType::f32;
  std::string rule;
  std::vector<SavedVector> vectors;
  std::vector<SavedMemory> memories;
};

/// What planning keeps.
struct SavedPlan {
  std::string plan;                              ///< JSON; empty: none was adopted
  std::map<std::string, std::string> forbidden;  ///< by layer: the spec that its guard has ruled out
  bool operator==(const SavedPlan&) const = default;
};

/// All that one rank of a hook, or of an optimiser, keeps from step to step.
struct SavedState {
  int rank = 0;
  int ranks = 1;
  std::uint64_t step = 0;  ///< steps completed; with the hook's seed, the state of all random numbers and schedules
  std::uint64_t skipped_steps = 0;
  std::uint64_t dense_fallbacks = 0;
  bool average = true;
  std::vector<SavedParam> params;
  std::string owner{kHook};  ///< whose it is: or "ZeroOneAdam"
  /// What an owner other than a hook keeps in numbers.
  std::map<std::string, std::uint64_t> numbers{};

  SavedPlan plan{};

  static constexpr std::string_view kHook = "GradientHook";
};

/// "rank-2-of-4.gradwire": a rank's file in the folder of a saved hook.
[[nodiscard]] std::string state_file_name(int rank, int ranks);

/// Writes docs/state-format.md's file so that `path` holds either what it held before or all of the new: to a temporary
/// file beside it, synced to disk, then renamed. Makes the folder if there is none. Throws Errc::io.
void write_state(const std::filesystem::path& path, const SavedState& state);

/// Throws Errc::io where the file cannot be read, Errc::bad_state where it is torn, foreign or of a later version.
[[nodiscard]] SavedState read_state(const std::filesystem::path& path);

/// How many ranks the states in this folder are of. Throws Errc::io for a folder without any, Errc::bad_state where
/// files of different rank counts lie in it or one is missing.
[[nodiscard]] int saved_ranks(const std::filesystem::path& folder);

}  // namespace gradwire
