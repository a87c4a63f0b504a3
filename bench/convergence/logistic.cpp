#include <Eigen/Dense>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "noise.hpp"
#include "problem.hpp"

namespace gradwire::convergence {
namespace {

using Matrix = Eigen::MatrixXd;

double sigmoid(double t) { return 1 / (1 + std::exp(-t)); }

Eigen::VectorXd gaussian(std::size_t count, double deviation, const NoiseKey& key) {
  Eigen::VectorXd v = Eigen::VectorXd::Zero(static_cast<Eigen::Index>(count));
  add_gaussian({v.data(), count}, deviation, key);
  return v;
}

class Logistic final : public Problem {
 public:
  explicit Logistic(const LogisticOptions& options) : options_(options) {
    for (int worker = 0; worker < options.workers; ++worker) samples_.push_back(draw(worker));
    find_smoothness();
    find_minimiser();
  }

  [[nodiscard]] int workers() const noexcept override { return options_.workers; }
  [[nodiscard]] const std::vector<double>& minimiser() const noexcept override { return minimiser_; }
  [[nodiscard]] double mu() const noexcept override { return options_.l2; }
  [[nodiscard]] double smoothness() const noexcept override { return smoothness_; }
  [[nodiscard]] double worker_smoothness() const noexcept override { return worker_smoothness_; }

  void gradient(int worker, std::span<const double> x, std::span<double> g) const override {
    const Eigen::Map<const Eigen::VectorXd> at(x.data(), static_cast<Eigen::Index>(x.size()));
    const Matrix& samples = samples_[static_cast<std::size_t>(worker)];
    Eigen::Map<Eigen::VectorXd>(g.data(), static_cast<Eigen::Index>(g.size())) = worker_gradient(samples, at);
  }

 private:
  /// Rows y a^T.
  [[nodiscard]] Matrix draw(int worker) const {
    const std::size_t d = options_.dimension;
    const double unit = 1 / std::sqrt(static_cast<double>(d));
    const Eigen::VectorXd truth = gaussian(d, 3, {options_.seed, 0, -1});
    const Eigen::VectorXd shift = gaussian(d, options_.skew * unit, {options_.seed, 1, worker});
    Matrix rows(static_cast<Eigen::Index>(options_.samples), static_cast<Eigen::Index>(d));
    for (std::size_t j = 0; j < options_.samples; ++j) {
      const Eigen::VectorXd a = shift + gaussian(d, unit, {options_.seed, 2 + j, worker});
      const double deviate = gaussian(1, 1, {options_.seed + 1, j, worker})(0);
      const double uniform = 0.5 * std::erfc(-deviate / std::sqrt(2.0));
      const bool own = uniform < options_.skew;
      const double label = own ? (worker % 2 == 0 ? 1.0 : -1.0) : (a.dot(truth) < 0 ? -1.0 : 1.0);
      rows.row(static_cast<Eigen::Index>(j)) = label * a;
    }
    return rows;
  }

  [[nodiscard]] Eigen::VectorXd worker_gradient(const Matrix& rows, const Eigen::VectorXd& x) const {
    const Eigen::VectorXd weights = (rows * x).unaryExpr([](double margin) { return -sigmoid(-margin); });
    return rows.transpose() * weights / static_cast<double>(rows.rows()) + options_.l2 * x;
  }

  /// Hessian of one worker's function where a sample counts `weight(margin)`.
  template <class Weight>
  [[nodiscard]] Matrix hessian(const Matrix& rows, const Eigen::VectorXd& x, Weight weight) const {
    const Eigen::VectorXd weights = (rows * x).unaryExpr(weight);
    Matrix sum = rows.transpose() * weights.asDiagonal() * rows / static_cast<double>(rows.rows());
    sum.diagonal().array() += options_.l2;
    return sum;
  }

  static double largest_eigenvalue(const Matrix& matrix) {
    return Eigen::SelfAdjointEigenSolver<Matrix>(matrix, Eigen::EigenvaluesOnly).eigenvalues().maxCoeff();
  }

  /// A sample's curvature is at most a quarter.
  void find_smoothness() {
    const Eigen::VectorXd zero = Eigen::VectorXd::Zero(static_cast<Eigen::Index>(options_.dimension));
    Matrix mean = Matrix::Zero(zero.size(), zero.size());
    double squares = 0;
    for (const Matrix& rows : samples_) {
      const Matrix worker = hessian(rows, zero, [](double) { return 0.25; });
      mean += worker / options_.workers;
      squares += std::pow(largest_eigenvalue(worker), 2);
    }
    smoothness_ = largest_eigenvalue(mean);
    worker_smoothness_ = std::sqrt(squares / options_.workers);
  }

  void find_minimiser() {
    Eigen::VectorXd x = Eigen::VectorXd::Zero(static_cast<Eigen::Index>(options_.dimension));
    for (int round = 0; round < 50; ++round) {
      Eigen::VectorXd g = Eigen::VectorXd::Zero(x.size());
      for (const Matrix& rows : samples_) g += worker_gradient(rows, x) / options_.workers;
      if (g.norm() < 1e-12) {
        minimiser_.assign(x.data(), x.data() + x.size());
        return;
      }
      Matrix curvature = Matrix::Zero(x.size(), x.size());
      for (const Matrix& rows : samples_) {
        curvature += hessian(rows, x, [](double margin) { return sigmoid(margin) * sigmoid(-margin); });
      }
      x -= (curvature / options_.workers).ldlt().solve(g);
    }
    throw std::runtime_error("Newton's method found no minimiser in 50 rounds");
  }

  const LogisticOptions options_;
  std::vector<Matrix> samples_;
  double smoothness_ = 0;
  double worker_smoothness_ = 0;
  std::vector<double> minimiser_;
};

}  // namespace

std::unique_ptr<Problem> make_logistic(const LogisticOptions& options) { return std::make_unique<Logistic>(options); }

}  // namespace gradwire::convergence
