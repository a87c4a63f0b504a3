#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gradwire/export.hpp"
#include "gradwire/hook.hpp"
#include "gradwire/plan.hpp"
#include "gradwire/planning.hpp"

namespace gradwire {

/// Something else worth knowing about a run, in words: "model", "ResNet-18".
struct RunFact {
  std::string name;
  std::string value;
};

/// What a run was.
struct RunFacts {
  std::string name;
  std::string compressor;  ///< the uniform setting: HookOptions::compressor
  std::string policy;      ///< PlanningOptions::policy; empty: none
  std::string transport;
  int ranks = 1;
  int rank = 0;  ///< whose times and bytes these are
  std::vector<RunFact> more = {};
};

/// Collects, on one rank, what a training run did, and writes it as a JSON file (docs/run-format.md), which
/// `gradwire report` turns into a page. Memory is bounded, however long the run: steps are averaged over
/// groups, of plans, events and timelines the oldest and the newest stay. Not for several threads at once.
///
/// What a reader could not take is refused when it is given, and the log stays as it was: `gradwire report` reads
/// whatever was written. Besides what is said below, all throw Errc::invalid_argument for a text that is no UTF-8 and
/// for a step above 2^53.
class GRADWIRE_API RunLog {
 public:
  /// Throws Errc::invalid_argument for ranks (1 to 10^9) or a rank that cannot be.
  explicit RunLog(RunFacts facts);
  RunLog(RunLog&&) noexcept;
  RunLog& operator=(RunLog&&) noexcept;
  ~RunLog();

  /// A step is done: GradientHook::report(). Throws Errc::invalid_argument for a step that does not come after the
  /// last one, times that are NaN, negative or above 1e15, norms that are NaN, infinite or negative, bytes and counts
  /// above 2^53, buckets that end before they begin, and fewer parameters than buckets of this step or of an earlier
  /// one name.
  void step(const StepReport& report);
  /// Layers have this plan from `step` on, which is counted from 0 as PlanEvent::step is: the number of steps done
  /// before. Another plan of the same step is replaced. The table that it was made from, if given, says what the
  /// uniform setting would have cost and lost; one without layers says nothing. Sums of the plan that are 0 are taken
  /// from its layers. Layers of one name, or without any, as a hook without a policy may have, get names of their own:
  /// "w", "w (2)", "(no name)". Throws Errc::invalid_argument for a step before that of the last plan, a plan without
  /// layers, a layer without a spec, an error that is neither 0 nor in 1e-120..1e120, bytes that sum to more than 2^53,
  /// other sums than the layers', a budget, bound or time that is NaN, infinite or negative, a table that check()
  /// refuses or with a layer of more than 2^53 elements.
  void plan(std::uint64_t step, const Plan& plan, const Table* table = nullptr);
  void event(const PlanEvent& event);
  /// A point of a curve over steps: accuracy, or whatever `name` says. NaN and Inf make a gap. Throws
  /// Errc::invalid_argument for a step that does not come after the curve's last one, and for too many curves (16).
  void accuracy(std::uint64_t step, double value, std::string_view name = "accuracy");

  [[nodiscard]] std::string json() const;
  /// The same into a file, which is there whole or not at all. Throws Errc::io with path and reason.
  void write(const std::string& path) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gradwire
