#include "plan/policy.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "base/fail.hpp"
#include "plan/table.hpp"

namespace gradwire {
namespace {

constexpr std::size_t kMaxNesting = 16;  // a policy in a policy, and its compressors

const std::vector<PolicyEntry>& registry() {
  static const std::vector<PolicyEntry> all = [] {
    std::vector<PolicyEntry> entries{lgreco_entry(), budget_entry(), spectral_entry(), accordion_entry()};
    for (std::vector<PolicyEntry> more : {by_hand_entries(), baseline_entries()})
      std::move(more.begin(), more.end(), std::back_inserter(entries));
    return entries;
  }();
  return all;
}

}  // namespace

struct Policy::Impl {
  std::string spec;
  Solver solver;
};

const std::string& Policy::spec() const noexcept { return impl_->spec; }

Plan Policy::plan(const Table& table) const {
  const auto start = std::chrono::steady_clock::now();
  check(table);
  const Solution solution = impl_->solver(table);
  Plan plan = assemble(table, solution.choice);
  plan.policy = impl_->spec;
  plan.limit = solution.limit;
  plan.budget = solution.budget;
  plan.bound = solution.bound;
  plan.solver_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  return plan;
}

std::string_view name(PlanLimit limit) noexcept {
  switch (limit) {
    case PlanLimit::none: return "none";
    case PlanLimit::error: return "error";
    case PlanLimit::squared_error: return "squared_error";
    case PlanLimit::bytes: return "bytes";
    case PlanLimit::time: return "time";
  }
  return "unknown";
}

std::optional<double> gap(const Plan& plan) noexcept {
  if (!plan.bound || !(*plan.bound > 0)) return {};
  const bool of_squares = plan.limit == PlanLimit::bytes || plan.limit == PlanLimit::time;
  const double value = of_squares ? plan.squared_error : static_cast<double>(plan.bytes);
  return std::max(0.0, value / *plan.bound - 1);
}

Solver make_solver(std::string_view text) {
  require(nesting_depth(text) <= kMaxNesting, "policy \"{}...\": parentheses nest {} deep; accepted: up to {}",
          text.substr(0, 40), nesting_depth(text), kMaxNesting);
  const Spec spec = parse_spec(text, "policy");
  std::vector<std::string_view> names;
  for (const PolicyEntry& entry : registry()) {
    names.push_back(entry.info.name);
    if (entry.info.name == spec.name) return entry.make(spec);
  }
  fail(Errc::invalid_argument, "unknown policy \"{}\": expected {}", spec.name, fmt::join(names, ", "));
}

Policy make_policy(std::string_view text) {
  return Policy(std::make_shared<const Policy::Impl>(Policy::Impl{std::string(text), make_solver(text)}));
}

std::vector<PolicyInfo> list_policies() {
  std::vector<PolicyInfo> rows;
  for (const PolicyEntry& entry : registry()) rows.push_back(entry.info);
  return rows;
}

}  // namespace gradwire
