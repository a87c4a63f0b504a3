#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "train/planning/guards.hpp"
#include "train/planning/planner.hpp"
#include "train/planning/side_sum.hpp"
#include "train/planning/vote.hpp"
#include "train/planning/windows.hpp"
#include "train/state_file.hpp"

#include "gradwire/hook.hpp"

namespace gradwire {

/// What a hook's planning does in which step (docs/adr/0009): it copies what is sent, adds sums up over ranks beside
/// the step's buckets, and says at a step's end which compressors hold from the next one on. All ranks come to the
/// same. Without a policy and a trace it only keeps the plan that was set by hand. The thread that drives the step
/// calls it.
class PlanAgenda {
 public:
  /// The spec of each layer.
  using Specs = std::vector<std::string>;

  /// `first`: the first step from which on the parameters' own schedules change no compressor. Throws
  /// Errc::invalid_argument for options that are wrong, Errc::io for a trace that cannot be written.
  PlanAgenda(const Communicator& comm, std::vector<PlannedLayer> layers, const HookOptions& options,
             std::uint64_t first);

  [[nodiscard]] const std::vector<PlannedLayer>& layers() const noexcept { return layers_; }
  /// Of the step that is under way, or else the next one.
  [[nodiscard]] const Specs& specs() const noexcept { return specs_; }

  // A step, in this order:
  void begin_step(std::uint64_t step);
  /// Of a layer that this step sends: its gradient (times `scale`) before the rule has seen it, and what the rule makes
  /// of it (f32).
  void see_gradient(std::size_t layer, ConstTensor gradient, float scale, StreamRef stream);
  void see_sent(std::size_t layer, ConstTensor sent, double ready_us, StreamRef stream);
  /// What the collective delivers, and what it leaves to this rank (f32; null data for a rule that has no use for it:
  /// such layers are not guarded).
  void see_delivered(std::size_t layer, ConstTensor delivered, ConstTensor lost, StreamRef stream);
  /// After the last bucket: starts what is to be summed.
  void start(StreamRef stream);
  [[nodiscard]] bool in_flight() const noexcept { return exchange_.in_flight() || control_.in_flight(); }
  /// True when something completed. Throws what puts ranks out of step.
  bool advance();
  [[nodiscard]] std::string describe() const;
  /// Bytes that the sums of this step sent.
  [[nodiscard]] std::uint64_t take_wire_bytes() noexcept {
    return exchange_.take_wire_bytes() + control_.take_wire_bytes();
  }
  /// Whether end_step() wants to know what is owed.
  [[nodiscard]] bool watches() const noexcept { return guards_.watching(); }
  /// What the rank owes of a layer after the step; before end_step(), and settled by then.
  void see_owed(std::size_t layer, ConstTensor values, StreamRef stream) { guards_.see_owed(layer, values, stream); }
  /// `dropped`: the step's gradients were not finite. New specs, where a plan or a guard changes any; adopt() or
  /// refuse() follows.
  [[nodiscard]] std::optional<Specs> end_step(bool dropped, const WindowSums::Steps& took);
  /// The engine runs the specs that end_step() gave, or could not.
  void adopt();
  void refuse(const std::string& why);

  // Between steps:
  /// Frozen layers are not sent, so not measured.
  void set_frozen(std::size_t layer, bool frozen) { frozen_[layer] = frozen; }
  /// A plan by hand. Throws Errc::invalid_argument for layers that are none.
  [[nodiscard]] Specs specs_of(const Plan& plan) const;
  /// The engine runs it, from this step on.
  void set_plan(const Plan& plan, std::uint64_t step);
  [[nodiscard]] Plan plan() const;
  [[nodiscard]] const Table& table() const noexcept { return table_; }
  [[nodiscard]] PlanningReport report() const;
  /// Without a plan.
  [[nodiscard]] Specs own_specs() const;
  [[nodiscard]] SavedPlan saved() const;
  /// What saved() gave holds, and the engine runs it; what an unfinished window has measured is lost.
  void restore(const std::optional<Plan>& plan, const std::map<std::string, std::string>& forbidden);

 private:
  [[nodiscard]] bool on() const noexcept { return planner_.has_value(); }
  void pack_control();
  void read_exchange();
  void compare_plans();
  void check_guards();
  void take_figures(const Plan& plan);
  void guard(std::size_t layer, const std::string& why);
  void forbid(std::size_t layer, const std::string& spec);
  [[nodiscard]] const TableLayer* row_of(std::size_t layer) const noexcept;
  void note(std::uint64_t step, PlanOutcome outcome, std::string detail);
  [[nodiscard]] bool is_due() const noexcept { return asked_ && windows_->compares(step_); }
  /// The parts of what `control_` sums: what is due, and what was watched.
  [[nodiscard]] std::span<float, kVoteFloats> votes() noexcept { return control_.values().first<kVoteFloats>(); }
  [[nodiscard]] std::span<float> seen() noexcept { return control_.values().subspan(kVoteFloats); }

  const int ranks_;
  const int rank_;
  const std::vector<PlannedLayer> layers_;
  const PlanningOptions options_;
  std::optional<Windows> windows_;
  std::optional<Policy> policy_;
  WindowSums sums_;
  SideSum exchange_;
  SideSum control_;
  std::optional<Planner> planner_;

  std::uint64_t step_ = 0;
  Guards guards_;
  bool asked_ = false;  // for a plan, which ranks have not compared yet
  std::optional<Solved> solved_;
  std::vector<bool> frozen_;
  Specs forbidden_;  // by guards; empty: none
  std::vector<double> previous_norms_;
  std::vector<std::size_t> rows_;  // of the table: which layers
  Table table_;
  bool has_plan_ = false;
  Specs specs_;
  Specs next_;                      // while ranks' plans are looked at
  std::vector<PlanLayer> figures_;  // of the layers, by the plan in force
  Plan plan_;                       // its sums
  std::optional<Plan> next_plan_;
  std::optional<std::string> adopting_;  // a plan of the policy that waits for the engine: why
  PlanningReport report_;
};

}  // namespace gradwire
