#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gradwire/hook.hpp"
#include "gradwire/plan.hpp"
#include "gradwire/run_log.hpp"

namespace gradwire::tools::report {

inline constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

/// A layer of a plan, and what else is known of it.
struct Layer {
  PlanLayer choice;
  std::uint64_t count = 0;  ///< elements; 0: not known
  std::vector<std::size_t> shape;
  double norm = 0;                     ///< of what the candidates were measured on; 0: not known
  std::optional<PlanLayer> reference;  ///< what the uniform setting would have given it

  /// On the wire; NaN where bytes or elements are not known.
  [[nodiscard]] double bits_per_element() const;
};

/// A plan of the log. Its sums are NaN where the bytes of a layer are not known (plans by hand, layers that a guard has
/// moved), and those over the reference unless all layers have one.
struct LoggedPlan {
  std::uint64_t step = 0;
  Plan plan;
  std::vector<Layer> layers;
  double bytes = kNone;
  double error = kNone;
  double squared_error = kNone;
  double reference_bytes = kNone;
  double reference_error = kNone;
  double reference_squared_error = kNone;
};

/// Means over `count` steps from `first` on; `skipped` is a number of steps.
struct StepMeans {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  double wire_bytes = 0;
  double dense_bytes = 0;
  double exposed_us = 0;
  double encode_us = 0;
  double wire_us = 0;
  double decode_us = 0;
  std::uint64_t skipped = 0;
};

struct Timeline {
  std::uint64_t step = 0;
  double exposed_us = 0;
  std::vector<BucketReport> buckets;
};

struct Event {
  std::uint64_t step = 0;
  std::string outcome;
  std::string detail;
};

struct CurvePoint {
  std::uint64_t step = 0;
  double value = 0;  ///< NaN: a gap
};

struct Curve {
  std::string name;
  std::vector<CurvePoint> points;
};

struct Totals {
  std::uint64_t steps = 0;
  double wire_bytes = 0;
  double dense_bytes = 0;
  double exposed_us = 0;
  std::uint64_t skipped_steps = 0;
  std::uint64_t dense_fallbacks = 0;
};

/// What RunLog wrote.
struct Run {
  std::string gradwire;  ///< version that wrote it
  RunFacts facts;
  Totals totals;
  std::vector<ParamReport> params;
  std::vector<StepMeans> steps;
  std::vector<LoggedPlan> plans;
  std::uint64_t plans_left_out = 0;
  std::vector<Event> events;
  std::uint64_t events_left_out = 0;
  std::vector<Timeline> timelines;
  std::vector<Curve> curves;

  /// Steps that the axes span: from 1 or before the first, to the last of anything.
  [[nodiscard]] std::uint64_t first_step() const;
  [[nodiscard]] std::uint64_t last_step() const;
};

/// Reads docs/run-format.md. Throws Errc::invalid_argument naming the place of what is missing, of the wrong type, or
/// does not fit the rest. Keys that are not known are ignored.
[[nodiscard]] Run read_run(std::string_view text);

}  // namespace gradwire::tools::report
