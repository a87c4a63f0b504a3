// Least summed squared error under a budget of bytes or of time, or fewest bytes under one of error.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/fail.hpp"
#include "plan/knapsack.hpp"
#include "plan/policy.hpp"
#include "plan/table.hpp"
#include "plan/time_budget.hpp"

namespace gradwire {
namespace {

constexpr double kNotGiven = -1;

struct Settings {
  std::string spec;
  double ratio = kNotGiven;
  double bytes = kNotGiven;
  double error = kNotGiven;
  double ms = kNotGiven;
  bool squared = true;
};

/// What is summed for each part of the problem.
double measure(const Candidate& candidate, PlanLimit part) {
  switch (part) {
    case PlanLimit::bytes: return static_cast<double>(candidate.bytes);
    case PlanLimit::squared_error: return candidate.error * candidate.error;
    default: return candidate.error;
  }
}

double measure(const Table& table, const Choice& choice, PlanLimit part) {
  double sum = 0;
  for (std::size_t l = 0; l < choice.size(); ++l) sum += measure(chosen(table, choice, l), part);
  return sum;
}

Solution solve(const Table& table, const Settings& settings) {
  if (settings.ms != kNotGiven) return solve_time_budget(table, settings.ms, settings.spec);
  const Choice reference = reference_of(table);
  Solution solution;
  if (settings.error != kNotGiven) {
    solution.limit = settings.squared ? PlanLimit::squared_error : PlanLimit::error;
    solution.budget =
        measure(table, reference, solution.limit) * settings.error * (settings.squared ? settings.error : 1);
  } else {
    solution.limit = PlanLimit::bytes;
    solution.budget = settings.ratio == kNotGiven ? settings.bytes : std::floor(dense_bytes(table) / settings.ratio);
  }
  const PlanLimit least = solution.limit == PlanLimit::bytes ? PlanLimit::squared_error : PlanLimit::bytes;

  Knapsack knapsack{{}, solution.budget};
  for (const TableLayer& layer : table.layers) {
    std::vector<KnapsackOption>& options = knapsack.layers.emplace_back();
    for (const Candidate& candidate : layer.candidates)
      options.push_back({measure(candidate, solution.limit), measure(candidate, least)});
  }
  KnapsackSolution found = solve(knapsack);
  if (found.choice.empty()) {
    double lightest = 0;
    for (const std::vector<KnapsackOption>& options : knapsack.layers) {
      double light = std::numeric_limits<double>::infinity();
      for (const KnapsackOption& option : options) light = std::min(light, option.weight);
      lightest += light;
    }
    fail(Errc::invalid_argument, "policy \"{}\": no plan: the least {} of all layers sums to {}, over the budget of {}",
         settings.spec, name(solution.limit), lightest, solution.budget);
  }
  // Whole steps may end above the reference, where that is a plan too.
  const bool reference_fits = measure(table, reference, solution.limit) <= solution.budget;
  if (reference_fits && measure(table, reference, least) < measure(table, found.choice, least))
    found.choice = reference;
  solution.choice = std::move(found.choice);
  solution.bound = found.bound;
  return solution;
}

Solver make(const Spec& spec) {
  OptionReader options(spec);
  Settings settings;
  settings.spec = spec.text;
  settings.ratio = options.real("ratio", kNotGiven, 1e-3, 1e9);
  settings.bytes = options.real("bytes", kNotGiven, 0, static_cast<double>(kMaxBytes));
  settings.error = options.real("error", kNotGiven, 0, 1e6);
  settings.ms = options.real("ms", kNotGiven, 0, 1e9);
  const std::size_t norm = options.choice("norm", 2, {"squared", "plain"});
  options.finish();
  int given = 0;
  for (const double option : {settings.ratio, settings.bytes, settings.error, settings.ms})
    given += option != kNotGiven ? 1 : 0;
  require(given == 1, "policy \"{}\": which budget? One of ratio=R, bytes=B, error=F, ms=T", spec.text);
  require(norm == 2 || settings.error != kNotGiven, "policy \"{}\": norm goes with error=F only", spec.text);
  settings.squared = norm != 1;
  return [settings](const Table& table) { return solve(table, settings); };
}

}  // namespace

PolicyEntry budget_entry() {
  return {{"budget", "budget(ratio=8)",
           "one of ratio=R: f32 bytes over the budget, bytes=B, error=F: times the reference's error, ms=T: exposed; "
           "with error "
           "norm=squared|plain (squared)",
           "least summed squared error within these bytes or this time, or fewest bytes within that error: convex "
           "hulls, with a bound",
           "Sinha, Zoltners 1979, doi 10.1287/opre.27.3.503"},
          make};
}

}  // namespace gradwire
