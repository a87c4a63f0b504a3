#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "noise.hpp"
#include "problem.hpp"

namespace gradwire::convergence {
namespace {

using Vector = std::vector<double>;

double dot(std::span<const double> a, std::span<const double> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

void scale_to(Vector& v, double norm) {
  const double factor = norm / std::sqrt(dot(v, v));
  for (double& value : v) value *= factor;
}

Vector gaussian(std::size_t count, const NoiseKey& key) {
  Vector v(count);
  add_gaussian(v, 1, key);
  return v;
}

class Quadratic final : public Problem {
 public:
  explicit Quadratic(const QuadraticOptions& options) : options_(options) {
    const std::size_t d = options.dimension;
    for (std::size_t k = 0; k < mirrors_.size(); ++k) {
      mirrors_[k] = gaussian(d, {options.seed, k, -1});
      scale_to(mirrors_[k], 1);
    }
    minimiser_ = gaussian(d, {options.seed, 0, -2});
    scale_to(minimiser_, 1);
    make_eigenvalues();
    make_slopes();
  }

  [[nodiscard]] int workers() const noexcept override { return options_.workers; }
  [[nodiscard]] const Vector& minimiser() const noexcept override { return minimiser_; }
  [[nodiscard]] double mu() const noexcept override { return 1 / options_.condition; }
  [[nodiscard]] double smoothness() const noexcept override { return 1; }
  [[nodiscard]] double worker_smoothness() const noexcept override { return worker_smoothness_; }

  void gradient(int worker, std::span<const double> x, std::span<double> g) const override {
    const auto w = static_cast<std::size_t>(worker);
    for (std::size_t i = 0; i < g.size(); ++i) g[i] = x[i] - minimiser_[i];
    for (const Vector& mirror : mirrors_) reflect(mirror, g);
    for (std::size_t i = 0; i < g.size(); ++i) g[i] *= eigenvalues_[w][i];
    for (std::size_t k = mirrors_.size(); k-- > 0;) reflect(mirrors_[k], g);
    for (std::size_t i = 0; i < g.size(); ++i) g[i] += slopes_[w][i];
  }

 private:
  /// v -= 2 (u^T v) u.
  static void reflect(const Vector& u, std::span<double> v) {
    const double twice = 2 * dot(u, v);
    for (std::size_t i = 0; i < v.size(); ++i) v[i] -= twice * u[i];
  }

  /// Subtracts the workers' mean from each of them.
  static void centre(std::vector<Vector>& all) {
    for (std::size_t i = 0; i < all.front().size(); ++i) {
      double mean = 0;
      for (const Vector& v : all) mean += v[i] / static_cast<double>(all.size());
      for (Vector& v : all) v[i] -= mean;
    }
  }

  void make_eigenvalues() {
    const std::size_t d = options_.dimension;
    for (int worker = 0; worker < options_.workers; ++worker) {
      eigenvalues_.push_back(gaussian(d, {options_.seed, 1, worker}));
    }
    centre(eigenvalues_);
    for (std::size_t i = 0; i < d; ++i) {
      double widest = 1e-300;
      for (const Vector& s : eigenvalues_) widest = std::max(widest, std::abs(s[i]));
      const double mean = std::pow(options_.condition, -static_cast<double>(i) / static_cast<double>(d - 1));
      for (Vector& s : eigenvalues_) s[i] = mean * (1 + options_.spread * s[i] / widest);
    }
    double squares = 0;
    for (const Vector& s : eigenvalues_) squares += std::pow(*std::max_element(s.begin(), s.end()), 2);
    worker_smoothness_ = std::sqrt(squares / options_.workers);
  }

  void make_slopes() {
    for (int worker = 0; worker < options_.workers; ++worker) {
      slopes_.push_back(gaussian(options_.dimension, {options_.seed, 2, worker}));
    }
    centre(slopes_);
    double squares = 0;
    for (const Vector& w : slopes_) squares += dot(w, w) / options_.workers;
    const double factor = squares == 0 ? 0 : options_.zeta / std::sqrt(squares);
    for (Vector& w : slopes_) {
      for (double& value : w) value *= factor;
    }
  }

  const QuadraticOptions options_;
  std::array<Vector, 3> mirrors_;  // R^T is these one after another
  Vector minimiser_;
  std::vector<Vector> eigenvalues_;  // of each worker
  std::vector<Vector> slopes_;       // zeta w_i
  double worker_smoothness_ = 0;
};

}  // namespace

std::unique_ptr<Problem> make_quadratic(const QuadraticOptions& options) {
  return std::make_unique<Quadratic>(options);
}

}  // namespace gradwire::convergence
