#include "problem.hpp"

#include <cmath>

namespace gradwire::convergence {

Problem::~Problem() = default;

double Problem::heterogeneity() const {
  std::vector<double> g(dimension());
  double squares = 0;
  for (int worker = 0; worker < workers(); ++worker) {
    gradient(worker, minimiser(), g);
    for (const double value : g) squares += value * value;
  }
  return std::sqrt(squares / workers());
}

double Problem::gradient_norm(std::span<const double> x) const {
  std::vector<double> g(dimension());
  std::vector<double> sum(dimension());
  for (int worker = 0; worker < workers(); ++worker) {
    gradient(worker, x, g);
    for (std::size_t i = 0; i < g.size(); ++i) sum[i] += g[i];
  }
  double squares = 0;
  for (const double value : sum) squares += value * value;
  return std::sqrt(squares) / workers();
}

}  // namespace gradwire::convergence
