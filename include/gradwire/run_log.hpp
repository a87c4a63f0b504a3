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
class GRADWIRE_API RunLog {
 public:
  /// Throws Errc::invalid_argument for ranks or a rank that cannot be.
  explicit RunLog(RunFacts facts);
  RunLog(RunLog&&) noexcept;
  RunLog& operator=(RunLog&&) noexcept;
  ~RunLog();

  /// A step is done: GradientHook::report(). Throws Errc::invalid_argument for a step that does not come after the
  /// last one.
  void step(const StepReport& report);
  /// Layers have this plan from `step` on, which is counted from 0 as PlanEvent::step is: the number of steps done
  /// before. Another plan of the same step is replaced. The table that it was made from, if given, says what the
  /// uniform setting would have cost and lost. Throws Errc::invalid_argument for a step before that of the last plan,
  /// or a plan without layers.
  void plan(std::uint64_t step, const Plan& plan, const Table* table = nullptr);
  void event(const PlanEvent& event);
  /// A point of a curve over steps: accuracy, or whatever `name` says. NaN and Inf make a gap. Throws
  /// Errc::invalid_argument for a step that does not come after the curve's last one, and for too many curves (16).
  void accuracy(std::uint64_t step, double value, std::string_view name = "accuracy");

  /// Throws Errc::invalid_argument for a name that is no UTF-8.
  [[nodiscard]] std::string json() const;
  /// The same into a file, which is there whole or not at all. Throws also Errc::io with path and reason.
  void write(const std::string& path) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gradwire
