#include "theory.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gradwire/compressor.hpp"

namespace gradwire::convergence {

double contraction(const std::string& compressor, std::size_t count) {
  return std::max(1 - make_compressor(compressor).error_bound(count), 0.0);
}

double log_slope(std::span<const double> x, std::span<const double> y) {
  double mean_x = 0, mean_y = 0, xx = 0, xy = 0;
  const auto n = static_cast<double>(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!(x[i] > 0 && y[i] > 0 && std::isfinite(y[i]))) return std::numeric_limits<double>::quiet_NaN();
    mean_x += std::log(x[i]) / n;
    mean_y += std::log(y[i]) / n;
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    xx += (std::log(x[i]) - mean_x) * (std::log(x[i]) - mean_x);
    xy += (std::log(x[i]) - mean_x) * (std::log(y[i]) - mean_y);
  }
  return x.size() < 2 ? std::numeric_limits<double>::quiet_NaN() : xy / xx;
}

Ef21Theory::Ef21Theory(const Problem& problem, double delta) : mu_(problem.mu()) {
  const double theta = 1 - std::sqrt(1 - delta);
  const double beta = (1 - delta) / theta;
  rate_ = std::min(1 / (problem.smoothness() + problem.worker_smoothness() * std::sqrt(2 * beta / theta)),
                   theta / (2 * mu_));
  const std::vector<double> origin(problem.dimension());
  std::vector<double> g(problem.dimension());
  double squares = 0;
  for (int worker = 0; worker < problem.workers(); ++worker) {
    problem.gradient(worker, origin, g);
    for (const double value : g) squares += value * value / problem.workers();
  }
  double distance = 0;
  for (const double value : problem.minimiser()) distance += value * value;
  start_ = problem.smoothness() / 2 * distance + rate_ / theta * squares;
}

double Ef21Theory::distance_squared(std::uint64_t step) const {
  return 2 / mu_ * start_ * std::pow(1 - rate_ * mu_, static_cast<double>(step));
}

}  // namespace gradwire::convergence
