#pragma once
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compress/spec.hpp"

#include "gradwire/plan.hpp"

namespace gradwire {

/// What a policy decided: a candidate's index for each layer, and what it kept and proved (see Plan).
struct Solution {
  std::vector<std::size_t> choice;
  PlanLimit limit = PlanLimit::none;
  double budget = 0;
  std::optional<double> bound = std::nullopt;
};

/// Takes checked tables only.
using Solver = std::function<Solution(const Table&)>;

/// One row of make_policy's registry. `make` reads all options of the spec, and keeps no view of its text.
struct PolicyEntry {
  PolicyInfo info;
  Solver (*make)(const Spec& spec);
};

/// The solver of a policy's text spec; throws as make_policy does.
[[nodiscard]] Solver make_solver(std::string_view text);

/// The registry's parts.
[[nodiscard]] PolicyEntry lgreco_entry();
[[nodiscard]] PolicyEntry budget_entry();
[[nodiscard]] PolicyEntry spectral_entry();
[[nodiscard]] PolicyEntry accordion_entry();
[[nodiscard]] std::vector<PolicyEntry> by_hand_entries();
[[nodiscard]] std::vector<PolicyEntry> baseline_entries();

}  // namespace gradwire
