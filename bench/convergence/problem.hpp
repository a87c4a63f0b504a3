#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace gradwire::convergence {

/// f(x) = 1/n sum over workers of f_i(x), strongly convex, with a minimiser that is known. Immutable: workers ask from
/// several threads at once.
class Problem {
 public:
  Problem() = default;
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;
  virtual ~Problem();

  [[nodiscard]] virtual int workers() const noexcept = 0;
  /// g = gradient of f_worker at x.
  virtual void gradient(int worker, std::span<const double> x, std::span<double> g) const = 0;
  [[nodiscard]] virtual const std::vector<double>& minimiser() const noexcept = 0;
  /// Of f: its Hessian's eigenvalues lie in [mu, L] everywhere.
  [[nodiscard]] virtual double mu() const noexcept = 0;
  [[nodiscard]] virtual double smoothness() const noexcept = 0;
  /// Square root of 1/n sum L_i^2, where L_i is that of f_i.
  [[nodiscard]] virtual double worker_smoothness() const noexcept = 0;

  [[nodiscard]] std::size_t dimension() const noexcept { return minimiser().size(); }
  /// zeta: square root of 1/n sum ||grad f_i(x*)||^2.
  [[nodiscard]] double heterogeneity() const;
  /// ||grad f(x)||.
  [[nodiscard]] double gradient_norm(std::span<const double> x) const;
};

/// f_i(x) = 1/2 (x - x*)^T A_i (x - x*) + zeta w_i^T (x - x*), where A_i = R diag(s_i) R^T with one random rotation R
/// for all. The mean of the A_i has eigenvalues spaced evenly in logarithm over [1/condition, 1]; the s_i vary about
/// them by a factor in [1 - spread, 1 + spread]. The w_i are random, add up to 0 and have mean square norm 1, so x* is
/// the minimiser and zeta the heterogeneity. ||x*|| = 1: a start from 0 is at distance 1.
struct QuadraticOptions {
  int workers = 16;
  std::size_t dimension = 256;
  double condition = 10;
  double spread = 0.5;
  double zeta = 1;
  std::uint64_t seed = 1;
};
[[nodiscard]] std::unique_ptr<Problem> make_quadratic(const QuadraticOptions& options);

/// f_i(x) = mean over its samples (a, y) of log(1 + exp(-y a^T x)) + l2/2 ||x||^2. Features a are Gaussian of norm
/// about 1 after a shift of length `skew` in a direction of the worker's own; labels are the sign of a^T x_true, and
/// with probability `skew` (at most 1) a label that half of the workers take as +1, the others as -1. The minimiser
/// comes from Newton's method, to a gradient of 1e-12.
struct LogisticOptions {
  int workers = 16;
  std::size_t dimension = 96;
  std::size_t samples = 64;  ///< of each worker
  double skew = 0.5;
  double l2 = 0.004;
  std::uint64_t seed = 1;
};
[[nodiscard]] std::unique_ptr<Problem> make_logistic(const LogisticOptions& options);

}  // namespace gradwire::convergence
