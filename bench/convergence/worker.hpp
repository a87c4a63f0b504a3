#pragma once
#include <memory>
#include <vector>

#include "descent.hpp"

#include "gradwire/buffer.hpp"
#include "gradwire/feedback.hpp"

namespace gradwire::convergence {

/// One worker's copy of x and its rule; whoever owns it moves the tensors. A step is prepare(), the collective over
/// input() and residual(), finish().
class Worker {
 public:
  Worker(const Problem& problem, const DescentOptions& options, int rank);

  void prepare();
  /// Makes the update from the sum in input() and applies it.
  void finish();

  [[nodiscard]] Tensor input() const noexcept { return input_.tensor(x_.size()); }
  /// Memory for the residual, also where the rule wants none.
  [[nodiscard]] Tensor residual() const noexcept { return residual_; }
  [[nodiscard]] std::uint64_t step() const noexcept { return step_; }
  [[nodiscard]] const std::vector<double>& x() const noexcept { return x_; }
  [[nodiscard]] double distance_squared() const;
  [[nodiscard]] bool diverged() const { return !(distance_squared() < 1e6 * start_); }
  [[nodiscard]] Point point() const { return {step_, distance_squared(), problem_.gradient_norm(x_)}; }

  /// Descent::drift of all workers together, between steps.
  [[nodiscard]] static double drift(const std::vector<std::unique_ptr<Worker>>& workers);
  /// Descent::owed of all workers together, between steps.
  [[nodiscard]] static double owed(const std::vector<std::unique_ptr<Worker>>& workers);

 private:
  [[nodiscard]] std::vector<float> state(std::string_view name) const;

  const Problem& problem_;
  const DescentOptions& options_;
  const int rank_;
  std::unique_ptr<FeedbackRule> rule_;
  Buffer input_;
  Buffer scratch_;
  Tensor residual_;
  std::vector<double> x_;
  std::vector<double> gradient_;
  std::vector<float> sent_gradient_;
  std::vector<double> given_;  // sum over steps of gradient / n, as the rule got it
  std::vector<double> taken_;  // sum over steps of updates
  std::uint64_t step_ = 0;
  double start_ = 0;
};

}  // namespace gradwire::convergence
