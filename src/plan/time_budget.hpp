#pragma once
#include <string>

#include "plan/policy.hpp"

namespace gradwire {

/// Least squared error with at most `ms` milliseconds exposed. Throws
/// Errc::invalid_argument, naming the policy, for a table without times, and where no plan keeps the budget.
[[nodiscard]] Solution solve_time_budget(const Table& table, double ms, const std::string& policy);

}  // namespace gradwire
