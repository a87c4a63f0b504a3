#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gradwire/export.hpp"

namespace gradwire {

/// How a hook chooses compressors for its layers while it trains (docs/planning.md): windows of `period` steps, in
/// which it measures what each candidate would cost and lose, then a policy, then a plan that all ranks adopt
/// at one step. Planned are the parameters that are not always dense.
struct PlanningOptions {
  std::string policy = {};  ///< "budget(ratio=20)", ...: make_policy(); empty: plans come by set_plan() alone
  /// Specs that each layer may get, beside its own, which is the reference. Empty: default_candidates().
  std::vector<std::string> candidates = {};
  std::uint64_t start = 100;   ///< steps before the first window
  std::uint64_t period = 500;  ///< steps of a window
  std::uint64_t samples = 4;   ///< steps of its last half, at even distances, are measured
  std::uint64_t lag = 8;       ///< steps from the exchange of tables to adoption: what the policy has time for
  /// Of the time that steps take, how much measuring may take of one core, at most: a thread of its own paces itself.
  /// What is not done in time is left out of the table. On a device: the share of time for which a measurement may be
  /// under way.
  /// 0: measured and solved by the thread that drives the hook (on a device, in the step's stream), without a limit;
  /// then two runs give the same plans. Else at least 0.001.
  double share = 0.05;
  /// A plan is kept if the new one would save less than this share of what the policy makes small (bytes, exposed time
  /// or, under a limit on these, squared error) and the old one still keeps the policy's limit, to 1 %. Policies
  /// without a limit ("fixed", ...) are always followed.
  double hysteresis = 0.05;
  /// Largest error of a plan, relative to what is sent: sqrt(sum of squared errors / sum of squared norms). Where the
  /// policy's plan is above it, the cheapest plan that is not is taken. 0: no limit.
  double max_error = 0;
  // Guard rails, watched every `watch` steps (0: never; a bound of 0: none). A layer beyond one moves to a candidate
  // with at most half of its error, or, where there is none, is sent dense; no plan of the policy moves it back to an
  // error as large.
  std::uint64_t watch = 25;
  /// Largest share that a step may lose of a layer: sqrt(lost^2 / (sent^2 + delivered^2)), squares summed over ranks.
  /// Layers with the rule "none" are not watched for it.
  double max_layer_error = 1;
  /// Largest norm of a layer's residual, in norms of its gradient.
  double max_residual_ratio = 1000;
  std::string trace = {};  ///< file for what is measured, of rank 0: docs/trace-format.md; also GRADWIRE_TRACE=FILE
};

/// What became of a plan.
enum class PlanOutcome : std::uint8_t {
  adopted,     ///< by the policy, or by hand
  kept,        ///< the old one: the policy's is the same, or hysteresis
  incomplete,  ///< no plan was made: layers were not measured in time, or norms are not in 1e-15..1e15
  late,        ///< the policy was not done on all ranks: the old plan stays
  failed,      ///< the policy could not, or ranks found different plans: the old plan stays
  guarded,     ///< one layer has left its bound and moves to a safer candidate
};
[[nodiscard]] GRADWIRE_API std::string_view name(PlanOutcome outcome) noexcept;

struct PlanEvent {
  std::uint64_t step = 0;  ///< the first step that it holds for
  PlanOutcome outcome = PlanOutcome::adopted;
  std::string detail;  ///< why, in words
};

/// What planning has done so far; steps and outcomes are the same on all ranks.
struct PlanningReport {
  std::vector<PlanEvent> events;
  double measure_us = 0;   ///< time of one core that measuring took on this rank; on a device, from launch to result
  double snapshot_us = 0;  ///< that copying gradients for it took of the steps
  double last_solve_ms = 0;
};

}  // namespace gradwire
