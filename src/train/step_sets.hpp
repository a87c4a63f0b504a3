#pragma once
#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "train/bucket_set.hpp"
#include "train/state_file.hpp"

namespace gradwire {

/// What decides how a parameter travels in a step.
struct StepParam {
  ParamInfo info;
  ParamPlan plan;
  bool staged = false;      ///< BucketParam
  bool scratch = false;     ///< likewise
  bool frozen = false;      ///< takes no part
  unsigned dense_in = 0;    ///< mask of reasons: it is sent dense in steps in which one of them holds
  bool sent_dense = false;  ///< its own compressor is "none", as a plan wants it
};

/// All bucket sets that the steps of a training can need, made beforehand, so that steps allocate nothing: a set of a
/// step is chosen by the step's number, as parameters' schedules have it, and by the reasons that hold in it.
class StepSets {
 public:
  /// Throws what BucketSet throws.
  StepSets(const Communicator& comm, std::span<const StepParam> params, std::size_t reasons,
           const HookOptions& options);

  [[nodiscard]] std::size_t size() const noexcept { return sets_.size(); }
  [[nodiscard]] BucketSet& operator[](std::size_t set) noexcept { return *sets_[set]; }
  [[nodiscard]] const BucketSet& operator[](std::size_t set) const noexcept { return *sets_[set]; }
  /// The set of a step in which the reasons of `mask` hold.
  [[nodiscard]] std::size_t of(std::uint64_t step, unsigned mask) const noexcept;
  /// Of the largest bucket that may be in the i-th place of those in flight.
  [[nodiscard]] std::size_t arena_bytes(std::size_t i) const noexcept { return arena_bytes_[i]; }

  // What the operations keep of a parameter from run to run: warm starts and the like.
  [[nodiscard]] std::vector<SavedMemory> memories(std::size_t param) const;
  /// Replaces all that is kept. Throws Errc::bad_state for memory of another shape; that of compressors that no set has
  /// is dropped.
  void set_memories(std::size_t param, std::span<const SavedMemory> memories);
  /// Takes up what `old` keeps, whose set in force is `current`: of the same compressor, or else of the one in force,
  /// as far as it fits (PersistentAllreduce::adopt_memory).
  void adopt_memories(const StepSets& old, std::size_t current);

 private:
  /// From step `first` on: the set of a step, by the mask of the reasons that hold in it.
  struct Phase {
    std::uint64_t first = 0;
    std::vector<std::size_t> sets;
  };

  [[nodiscard]] std::size_t add(const Communicator& comm, std::span<const StepParam> params, std::uint64_t step,
                                unsigned mask, const HookOptions& options);

  std::vector<std::string> keys_;  // of each set: the compressors of its parameters
  std::vector<std::unique_ptr<BucketSet>> sets_;
  std::vector<Phase> phases_;
  std::array<std::size_t, BucketSet::kMaxInFlight> arena_bytes_{};
  std::size_t params_;
};

}  // namespace gradwire
