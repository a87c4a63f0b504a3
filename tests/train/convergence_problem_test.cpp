// The problems are what they say: else nothing that is measured on them means anything.
#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "bench/convergence/descent.hpp"
#include "bench/convergence/noise.hpp"
#include "bench/convergence/problem.hpp"

namespace gradwire::convergence {
namespace {

std::vector<double> gaussian(std::size_t count, const NoiseKey& key) {
  std::vector<double> values(count);
  add_gaussian(values, 1, key);
  return values;
}

/// g = gradient of f.
std::vector<double> mean_gradient(const Problem& problem, const std::vector<double>& x) {
  std::vector<double> sum(x.size()), g(x.size());
  for (int worker = 0; worker < problem.workers(); ++worker) {
    problem.gradient(worker, x, g);
    for (std::size_t i = 0; i < x.size(); ++i) sum[i] += g[i] / problem.workers();
  }
  return sum;
}

/// Between any two points (grad f(x) - grad f(y))^T (x - y) is in [mu, L] ||x - y||^2.
void expect_curvature_within_bounds(const Problem& problem) {
  for (std::uint64_t pair = 0; pair < 20; ++pair) {
    const auto x = gaussian(problem.dimension(), {1, pair, 0});
    const auto y = gaussian(problem.dimension(), {1, pair, 1});
    const auto gx = mean_gradient(problem, x);
    const auto gy = mean_gradient(problem, y);
    double slope = 0, distance = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      slope += (gx[i] - gy[i]) * (x[i] - y[i]);
      distance += (x[i] - y[i]) * (x[i] - y[i]);
    }
    EXPECT_GE(slope / distance, problem.mu());
    EXPECT_LE(slope / distance, problem.smoothness());
  }
}

TEST(Problem, QuadraticHasTheMinimiserAndHeterogeneityAskedFor) {
  for (const int workers : {1, 2, 7, 32}) {
    for (const double zeta : {0.0, 3.0}) {
      const auto problem = make_quadratic({.workers = workers, .dimension = 61, .zeta = zeta});
      EXPECT_LT(problem->gradient_norm(problem->minimiser()), 1e-14);
      EXPECT_NEAR(problem->heterogeneity(), workers == 1 ? 0 : zeta, 1e-12);
      expect_curvature_within_bounds(*problem);
    }
  }
}

TEST(Problem, LogisticHasAMinimiserAndSkewMakesWorkersDiffer) {
  const auto alike = make_logistic({.workers = 6, .dimension = 23, .samples = 256, .skew = 0});
  const auto unlike = make_logistic({.workers = 6, .dimension = 23, .samples = 256, .skew = 0.5});
  for (const Problem* const problem : {alike.get(), unlike.get()}) {
    EXPECT_LT(problem->gradient_norm(problem->minimiser()), 1e-12);
    expect_curvature_within_bounds(*problem);
  }
  EXPECT_GT(unlike->heterogeneity(), 2 * alike->heterogeneity());
}

TEST(Noise, IsNamedByItsKeyAndHasTheDeviationAskedFor) {
  const auto first = gaussian(100'001, {1, 2, 3});
  EXPECT_EQ(first, gaussian(100'001, {1, 2, 3}));
  for (const NoiseKey& other : {NoiseKey{2, 2, 3}, NoiseKey{1, 3, 3}, NoiseKey{1, 2, 4}}) {
    const auto second = gaussian(first.size(), other);
    const double product = std::inner_product(first.begin(), first.end(), second.begin(), 0.0);
    EXPECT_NEAR(product / static_cast<double>(first.size()), 0, 0.02);
  }
  const double sum = std::accumulate(first.begin(), first.end(), 0.0);
  const double squares = std::inner_product(first.begin(), first.end(), first.begin(), 0.0);
  EXPECT_NEAR(sum / static_cast<double>(first.size()), 0, 0.02);
  EXPECT_NEAR(squares / static_cast<double>(first.size()), 1, 0.02);
}

/// What all other figures are held against.
TEST(Descent, WithoutCompressionGoesToTheMinimiserAsGradientDescentDoes) {
  for (const int workers : {1, 2, 3, 8}) {
    const auto problem = make_quadratic({.workers = workers, .dimension = 61});
    const Descent descent = descend(*problem, {.rule = "none", .compressor = "none", .steps = 1500});
    EXPECT_LT(descent.floor(), 1e-12);
    // Slowest direction: (1 - rate mu)^2 a step, and the other ones die out before.
    EXPECT_NEAR(descent.decay(1e-9, 1e-3), -2 * std::log(1 - 0.1 * problem->mu()), 2e-3);
  }
}

}  // namespace
}  // namespace gradwire::convergence
