#include "plan/figures.hpp"

#include <cmath>
#include <set>

#include "base/fail.hpp"
#include "plan/table.hpp"

namespace gradwire {
namespace {

void check_amount(std::string_view key, double value) {
  require(value >= 0 && std::isfinite(value), "plan: \"{}\" is {}; accepted: from 0 on", key, value);
}

}  // namespace

void sum_layers(Plan& plan) {
  require(!plan.layers.empty(), "plan: there are no layers");
  std::set<std::string_view> names;
  Totals sum;
  for (std::size_t i = 0; i < plan.layers.size(); ++i) {
    const PlanLayer& layer = plan.layers[i];
    require(!layer.name.empty() && !layer.spec.empty(), "plan: layer {}: name or spec is empty", i);
    require(names.insert(layer.name).second, "plan: layer {}: the name \"{}\" is there twice", i, layer.name);
    require(is_error(layer.error), "plan: layer {} (\"{}\"): error is {}; accepted: 0, {}..{}", i, layer.name,
            layer.error, kLeastError, kMaxError);
    require(layer.bytes <= kMaxBytes - sum.bytes, "plan: layer {} (\"{}\"): bytes sum to more than {}", i, layer.name,
            kMaxBytes);
    sum.bytes += layer.bytes;
    sum.error += layer.error;
    sum.squared_error += layer.error * layer.error;
  }
  plan.bytes = sum.bytes;
  plan.error = sum.error;
  plan.squared_error = sum.squared_error;
}

void check_sum(std::string_view key, double given, double sum, double rounding) {
  require(std::abs(given - sum) <= rounding * sum, "plan: \"{}\" is {}, but the layers sum to {}", key, given, sum);
}

Plan complete(Plan plan) {
  const Totals given{plan.bytes, plan.error, plan.squared_error};
  sum_layers(plan);
  if (given.bytes != 0) check_sum("bytes", static_cast<double>(given.bytes), static_cast<double>(plan.bytes), 0);
  if (given.error != 0) check_sum("error", given.error, plan.error, kSumRounding);
  if (given.squared_error != 0) check_sum("squared_error", given.squared_error, plan.squared_error, kSumRounding);
  check_amount("exposed_ms", plan.exposed_ms);
  if (plan.limit != PlanLimit::none) check_amount("budget", plan.budget);
  if (plan.bound) check_amount("bound", *plan.bound);
  check_amount("solver_ms", plan.solver_ms);
  return plan;
}

}  // namespace gradwire
