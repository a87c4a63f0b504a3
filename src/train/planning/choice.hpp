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
  std::vector<double> ceilings;      ///< each layer's error, as a share of its norm, has to be below; 0: no ceiling
};

struct PlanAnswer {
  Plan plan;
  bool kept = false;   ///< it is the current one
  std::string detail;  ///< why, in words
};

/// The policy's plan, unless the user's limit on the error or a layer's ceiling forbids it, or the current plan is as
/// good. Pure. Throws what Policy::plan throws.
[[nodiscard]] PlanAnswer choose_plan(const Table& table, const Policy& policy, const PlanQuestion& question);

/// The cheapest candidate of the layer with at most half the error of `spec`; "none" where there is none.
[[nodiscard]] const std::string& safer_spec(const TableLayer& layer, const std::string& spec);

}  // namespace gradwire
