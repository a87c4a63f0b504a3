// Budgets: the bound, the exact optimum and the plan, in this order.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "plan/hulls.hpp"
#include "unit/plan_support.hpp"

#include "gradwire/error.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double part(const Totals& sum, PlanLimit which) {
  switch (which) {
    case PlanLimit::bytes: return static_cast<double>(sum.bytes);
    case PlanLimit::squared_error: return sum.squared_error;
    default: return sum.error;
  }
}

/// The least of `least` with `limit` at most `budget`; infinity when there is no such plan.
double brute_force(const Table& table, PlanLimit least, PlanLimit limit, double budget) {
  double best = kInfinity;
  for_each_choice(table, [&](const Choice& choice) {
    const Totals sum = totals(table, choice);
    if (part(sum, limit) <= budget) best = std::min(best, part(sum, least));
  });
  return best;
}

struct Case {
  std::string spec;
  PlanLimit least;
  PlanLimit limit;
};

/// Returns whether the plan is proven to be the best.
bool expect_sandwich(const Table& table, const Case& test, double budget) {
  const double best = brute_force(table, test.least, test.limit, budget);
  if (best == kInfinity) {
    EXPECT_THROW((void)make_policy(test.spec).plan(table), Error) << test.spec << "\n" << to_json(table);
    return true;
  }
  const Plan plan = make_policy(test.spec).plan(table);
  const Totals sum = totals(table, choice_of(table, plan));
  EXPECT_EQ(plan.limit, test.limit);
  EXPECT_EQ(plan.budget, budget);
  EXPECT_EQ(plan.bytes, sum.bytes);
  EXPECT_EQ(plan.squared_error, sum.squared_error);
  EXPECT_LE(part(sum, test.limit), budget) << test.spec;
  EXPECT_TRUE(plan.bound.has_value());
  EXPECT_LE(*plan.bound, best * (1 + 1e-12)) << test.spec << "\n" << to_json(table);
  EXPECT_GE(part(sum, test.least), best);
  EXPECT_LE(part(sum, test.least), best * (1 + 1e-12)) << test.spec << "\n" << to_json(table);
  return *plan.bound >= best * (1 - 1e-12);
}

TEST(Budget, BoundOptimumPlan) {
  std::mt19937 random(1);
  int plans = 0;
  int proven = 0;
  const auto expect = [&](const Table& table, const Case& test, double budget) {
    proven += expect_sandwich(table, test, budget) ? 1 : 0;
    ++plans;
  };
  for (int i = 0; i < 400; ++i) {
    const Table table = random_table(random, {.whole = i % 2 == 1});
    const Totals reference = totals(table, reference_of(table));
    double dense = 0;
    for (const TableLayer& layer : table.layers) dense += 4 * static_cast<double>(layer.count);
    for (const int ratio : {1, 2, 8}) {
      expect(table, {fmt::format("budget(ratio={})", ratio), PlanLimit::squared_error, PlanLimit::bytes},
             std::floor(dense / ratio));
    }
    for (const std::uint64_t bytes : {reference.bytes, reference.bytes / 2, std::uint64_t{0}}) {
      expect(table, {fmt::format("budget(bytes={})", bytes), PlanLimit::squared_error, PlanLimit::bytes},
             static_cast<double>(bytes));
    }
    for (const double error : {0.0, 0.5, 1.0, 2.0}) {
      expect(table, {fmt::format("budget(error={})", error), PlanLimit::bytes, PlanLimit::squared_error},
             reference.squared_error * error * error);
      expect(table, {fmt::format("budget(error={},norm=plain)", error), PlanLimit::bytes, PlanLimit::error},
             reference.error * error);
    }
  }
  EXPECT_EQ(proven, plans);
}

/// With many layers a step is small: the proven gap is too.
TEST(Budget, TheGapIsSmallWhereLayersAreMany) {
  std::mt19937 random(2);
  for (int i = 0; i < 20; ++i) {
    Table table;
    for (int l = 0; l < 100; ++l) {
      TableLayer layer{fmt::format("layer{}", l), 1000, 4, {}};
      const double norm = std::exp(std::normal_distribution<double>(0, 1)(random));
      for (int bits = 1; bits <= 8; ++bits)
        layer.candidates.push_back({fmt::format("q{}", bits), std::uint64_t(125 * bits), norm * std::exp2(-bits)});
      table.layers.push_back(layer);
    }
    const Plan plan = make_policy("budget(ratio=9)").plan(table);  // 355.5 steps of 125 bytes
    EXPECT_GT(plan.squared_error, 0);
    EXPECT_LE(plan.squared_error, *plan.bound * 1.01);
    const Plan whole = make_policy("budget(ratio=8)").plan(table);  // 400 steps: the relaxation is the optimum
    EXPECT_LE(whole.squared_error, *whole.bound * (1 + 1e-12));
    const Plan fewest = make_policy("budget(error=1)").plan(table);
    EXPECT_LE(static_cast<double>(fewest.bytes), *fewest.bound + 125);
    EXPECT_LT(fewest.bytes, totals(table, reference_of(table)).bytes);
  }
}

TEST(Budget, TheReferenceIsNeverBeatenByItsOwnBudget) {
  std::mt19937 random(3);
  for (int i = 0; i < 400; ++i) {
    const Table table = random_table(random);
    const Totals reference = totals(table, reference_of(table));
    EXPECT_LE(make_policy(fmt::format("budget(bytes={})", reference.bytes)).plan(table).squared_error,
              reference.squared_error);
    EXPECT_LE(make_policy("budget(error=1)").plan(table).bytes, reference.bytes);
    EXPECT_LE(make_policy("budget(error=1,norm=plain)").plan(table).bytes, reference.bytes);
  }
}

TEST(Budget, ALargerBudgetHasALowerBound) {
  std::mt19937 random(4);
  for (int i = 0; i < 50; ++i) {
    const Table table = random_table(random, {.most_layers = 10, .most_candidates = 12});
    std::uint64_t most = 0;
    for (const TableLayer& layer : table.layers)
      for (const Candidate& candidate : layer.candidates) most += candidate.bytes;
    double before = kInfinity;
    double least = kInfinity;
    for (std::uint64_t share = 0; share <= 50; ++share) {
      Plan plan;
      try {
        plan = make_policy(fmt::format("budget(bytes={})", most * share / 50)).plan(table);
      } catch (const Error&) {
        EXPECT_EQ(before, kInfinity);  // what was possible stays so
        continue;
      }
      EXPECT_LE(*plan.bound, before * (1 + 1e-12));
      before = *plan.bound;
      least = plan.squared_error;
    }
    double best = 0;
    for (const TableLayer& layer : table.layers) {
      double error = kInfinity;
      for (const Candidate& candidate : layer.candidates) error = std::min(error, candidate.error);
      best += error * error;
    }
    EXPECT_EQ(least, best);  // all bytes there are: the least error of each layer
  }
}

TEST(Budget, FamiliesMix) {
  const Table table{{{"matrix", 10'000, 0, {{"q4", 5000, 2}, {"powersgd(rank=4)", 1600, 1}}},
                     {"vector", 1000, 0, {{"q4", 500, 1}, {"topk(0.01)", 60, 3}}}}};
  const Plan plan = make_policy("budget(bytes=2100)").plan(table);
  EXPECT_EQ(plan.layers[0].spec, "powersgd(rank=4)");
  EXPECT_EQ(plan.layers[1].spec, "q4");
}

TEST(Budget, RefusesWhatItCannotKeep) {
  const Table table{{{"a", 100, 0, {{"q4", 50, 1}, {"q2", 25, 2}}}, {"b", 100, 0, {{"q4", 50, 3}}}}};
  const auto message = [&](const char* spec) -> std::string {
    try {
      (void)make_policy(spec).plan(table);
    } catch (const Error& error) {
      return fmt::format("{}: {}", name(error.code()), error.what());
    }
    return "no error";
  };
  EXPECT_THAT(message("budget(bytes=74)"),
              HasSubstr("the least bytes of all layers sums to 75, over the budget of 74"));
  EXPECT_THAT(message("budget(ratio=100)"), HasSubstr("invalid_argument: policy \"budget(ratio=100)\": no plan"));
  EXPECT_THAT(message("budget(error=0.1)"), HasSubstr("the least squared_error of all layers sums to 10"));
  EXPECT_THAT(message("budget"), HasSubstr("One of ratio=R, bytes=B, error=F, ms=T"));
  EXPECT_THAT(message("budget(ratio=2,bytes=9)"), HasSubstr("One of ratio=R, bytes=B, error=F, ms=T"));
  EXPECT_THAT(message("budget(ratio=2,norm=plain)"), HasSubstr("norm goes with error=F only"));
}

TEST(Hulls, CornersOnOneLineAllStay) {
  const Hulls hulls = hulls_of({{{{0, 8}, {1, 6}, {2, 4}, {3, 2}, {4, 0}}}, 0});
  EXPECT_EQ(hulls.steps.size(), 4U);
}

TEST(Hulls, WhatIsBeatenOrAboveTheHullMakesNoStep) {
  const Hulls hulls = hulls_of({{{{5, 1}, {0, 9}, {1, 8.5}, {2, 3}, {2, 4}, {3, 3}, {5, 1}}}, 0});
  EXPECT_EQ(hulls.useful[0], (std::vector<std::size_t>{1, 2, 3, 0}));
  ASSERT_EQ(hulls.steps.size(), 2U);
  EXPECT_EQ(hulls.steps[0].from, 1U);
  EXPECT_EQ(hulls.steps[0].to, 3U);
  EXPECT_EQ(hulls.steps[0].rate, 3);
  EXPECT_EQ(hulls.steps[1].to, 0U);
}

/// After the first step that does not fit there is room for others, and for candidates off the hull.
TEST(Knapsack, FillsWhatIsLeft) {
  const KnapsackSolution solution = solve({{{{0, 100}, {10, 0}}, {{0, 5}, {2, 4.5}, {3, 0}}, {{0, 9}, {4, 8}}}, 9});
  EXPECT_EQ(solution.choice, (std::vector<std::size_t>{0, 2, 1}));
  EXPECT_EQ(solution.bound, 108);
}

/// Where the first steps are the wrong ones: two medium options instead of the steepest.
TEST(Knapsack, FindsWhatWholeStepsMiss) {
  const KnapsackSolution solution = solve({{{{0, 10}, {6, 0}}, {{0, 8}, {5, 0}}, {{0, 8}, {5, 0}}}, 10});
  EXPECT_EQ(solution.choice, (std::vector<std::size_t>{0, 1, 1}));
  EXPECT_EQ(solution.bound, 10);
}

/// 0.1 + 0.2 is above 0.3, and (0.1 + 0.2) + 0.3 above (0.3 + 0.2) + 0.1: the sum in the order of layers decides.
TEST(Knapsack, KeepsTheLimitToTheLastBit) {
  const KnapsackSolution two = solve({{{{0, 5}, {0.1, 0}}, {{0, 6}, {0.2, 0}}}, 0.3});
  EXPECT_EQ(two.choice, (std::vector<std::size_t>{0, 1}));
  EXPECT_EQ(two.bound, 5);
  const KnapsackSolution three = solve({{{{0, 1}, {0.1, 0}}, {{0, 4}, {0.2, 0}}, {{0, 9}, {0.3, 0}}}, 0.6});
  EXPECT_EQ(three.choice, (std::vector<std::size_t>{0, 1, 1}));
}

/// Even weights cannot fill an odd limit, but no relaxation sees that: the search ends unproven, and says so.
TEST(Knapsack, WhereTheSearchEndsTheBoundIsTheRelaxations) {
  std::mt19937 random(5);
  Knapsack knapsack{{}, 30'001};
  double all = 0;
  for (int l = 0; l < 40; ++l) {
    const double weight = 2 * std::uniform_int_distribution<>(500, 1000)(random);
    all += weight;
    knapsack.layers.push_back({{0, weight}, {weight, 0}});
  }
  const KnapsackSolution solution = solve(knapsack);
  double cost = 0;
  for (std::size_t l = 0; l < solution.choice.size(); ++l) cost += knapsack.layers[l][solution.choice[l]].cost;
  EXPECT_DOUBLE_EQ(solution.bound, all - knapsack.limit);
  EXPECT_GT(cost, solution.bound);
  EXPECT_LT(cost, solution.bound + 100);
}

TEST(PlanGap, IsInTheMeasureOfTheBound) {
  Plan plan;
  plan.bytes = 150;
  plan.squared_error = 3;
  EXPECT_EQ(gap(plan), std::nullopt);
  plan.bound = 2;
  for (const PlanLimit limit : {PlanLimit::bytes, PlanLimit::time}) {
    plan.limit = limit;
    EXPECT_EQ(gap(plan), 0.5);
  }
  plan.bound = 120;
  for (const PlanLimit limit : {PlanLimit::error, PlanLimit::squared_error}) {
    plan.limit = limit;
    EXPECT_EQ(gap(plan), 0.25);
  }
  plan.bound = std::nextafter(150, 151);
  EXPECT_EQ(gap(plan), 0.0) << "rounding of the sum";
  plan.bound = 0;
  EXPECT_EQ(gap(plan), std::nullopt);
}

}  // namespace
}  // namespace gradwire::testing
