// The search behind `budget`, beside a program over whole units of time, which is exact.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

#include "plan/nested.hpp"

namespace gradwire::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
using Choice = std::vector<std::size_t>;

double passed_at(const Nested& problem, const Choice& choice) {
  double passed = 0;
  for (std::size_t l = 0; l < choice.size(); ++l)
    passed = std::max(passed, problem.ready[l]) + problem.layers[l][choice[l]].weight;
  return passed;
}

double cost_of(const Nested& problem, const Choice& choice) {
  double cost = 0;
  for (std::size_t l = 0; l < choice.size(); ++l) cost += problem.layers[l][choice[l]].cost;
  return cost;
}

Choice lightest(const Nested& problem) {
  Choice choice;
  for (const std::vector<KnapsackOption>& options : problem.layers) {
    const auto least = std::min_element(options.begin(), options.end(),
                                        [](const auto& a, const auto& b) { return a.weight < b.weight; });
    choice.push_back(static_cast<std::size_t>(least - options.begin()));
  }
  return choice;
}

/// The least cost: all weights are whole numbers.
double exact(const Nested& problem) {
  const auto cells = static_cast<std::size_t>(problem.deadline) + 1;
  std::vector<double> before(cells, kInfinity);
  before[0] = 0;
  for (std::size_t l = 0; l < problem.layers.size(); ++l) {
    std::vector<double> after(cells, kInfinity);
    for (std::size_t cell = 0; cell < cells; ++cell) {
      if (before[cell] == kInfinity) continue;
      for (const KnapsackOption& option : problem.layers[l]) {
        const double passed = std::max(static_cast<double>(cell), problem.ready[l]) + option.weight;
        if (passed > problem.deadline) continue;
        double& now = after[static_cast<std::size_t>(passed)];
        now = std::min(now, before[cell] + option.cost);
      }
    }
    before = after;
  }
  return *std::min_element(before.begin(), before.end());
}

struct Shape {
  std::size_t layers;
  bool waits;      ///< layers are ready at different times
  bool dominated;  ///< one layer's options have most of all weight and cost
  bool fills;      ///< costs are what weights leave: all choices that fill the limit are the same to the relaxation
};

Nested random_problem(std::mt19937& random, const Shape& shape) {
  const auto whole = [&](int low, int high) { return std::uniform_int_distribution<>(low, high)(random); };
  Nested problem;
  std::vector<double> ready(shape.layers, 0);
  if (shape.waits)
    for (double& each : ready) each = whole(0, 2000);
  std::sort(ready.begin(), ready.end());
  problem.ready = ready;
  const auto large = static_cast<std::size_t>(whole(0, static_cast<int>(shape.layers) - 1));
  double least = 0;
  double most = 0;
  for (std::size_t l = 0; l < shape.layers; ++l) {
    const int scale = shape.dominated && l == large ? 40 : 1;
    std::vector<KnapsackOption>& options = problem.layers.emplace_back();
    double lightest = kInfinity;
    double heaviest = 0;
    for (int i = whole(1, 8); i >= 0; --i) {
      const double weight = whole(0, 100 * scale);
      const double cost = shape.fills ? 100 * scale - weight
                                      : scale * 100 * std::exp(-0.02 * weight / scale) *
                                            std::uniform_real_distribution<>(0.7, 1.3)(random);
      options.push_back({weight, cost});
      lightest = std::min(lightest, weight);
      heaviest = std::max(heaviest, weight);
    }
    least = std::max(least, ready[l]) + lightest;
    most = std::max(most, ready[l]) + heaviest;
  }
  problem.deadline = std::round(least + std::uniform_real_distribution<>(0, 0.7)(random) * (most - least));
  return problem;
}

TEST(Nested, IsTheOptimumWhereItSaysSo) {
  std::mt19937 random(1);
  int proven = 0;
  int problems = 0;
  for (int i = 0; i < 400; ++i) {
    Nested problem = random_problem(
        random, {.layers = std::size_t(5 + i % 36), .waits = i % 2 == 1, .dominated = i % 3 == 1, .fills = i % 7 == 6});
    problem.keeps = [&](const Choice& choice) { return passed_at(problem, choice) <= problem.deadline; };
    Choice best = lightest(problem);
    const double bound = improve(problem, best);
    const double wanted = exact(problem);
    EXPECT_TRUE(problem.keeps(best)) << i;
    EXPECT_LE(bound, wanted * (1 + 1e-11)) << i;
    EXPECT_GE(cost_of(problem, best), wanted * (1 - 1e-11)) << i;
    EXPECT_LE(cost_of(problem, best), wanted * 1.001 + 1) << i;
    ++problems;
    if (bound < cost_of(problem, best) * (1 - 1e-11)) continue;
    ++proven;
    EXPECT_LE(cost_of(problem, best), wanted * (1 + 1e-11)) << i;
  }
  EXPECT_GT(proven, 0.95 * problems);
}

TEST(Nested, WhatTheExactTestRefusesIsNotTaken) {
  Nested problem{{{{0, 5}, {2, 0}}, {{0, 5}, {2, 0}}}, {0, 0}, 4, {}};
  problem.keeps = [](const Choice&) { return false; };  // nothing else will do
  Choice best{0, 1};
  EXPECT_EQ(improve(problem, best), 5);
  EXPECT_EQ(best, (Choice{0, 1}));
}

}  // namespace
}  // namespace gradwire::testing
