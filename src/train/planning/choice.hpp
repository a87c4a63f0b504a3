#pragma once
#include <span>
#include <string>
#include <vector>

#include "gradwire/plan.hpp"

namespace gradwire {

/// What a hook's next plan depends on, besides the table.
struct PlanQuestion {
  double hysteresis = 0;
  double max_error = 0;
  std::vector<std::string> current;  ///< each layer's spec
  /// Each layer's error has to be below that of this candidate, which its guard has ruled out; empty: none.
  std::vector<std::string> forbidden;
};

struct PlanAnswer {
  Plan plan;
  bool kept = false;   ///< it is the current one
  std::string detail;  ///< why, in words
};

/// The policy's plan, unless the user's limit on the error or a layer's guard forbids it, or the current plan is as
/// good. Pure. Throws what Policy::plan throws.
[[nodiscard]] PlanAnswer choose_plan(const Table& table, const Policy& policy, const PlanQuestion& question);

/// The cheapest candidate of the layer with at most half the error of `spec`; "none" where there is none.
[[nodiscard]] const std::string& safer_spec(const TableLayer& layer, const std::string& spec);

}  // namespace gradwire
