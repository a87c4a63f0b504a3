#include "worker.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "noise.hpp"

namespace gradwire::convergence {
namespace {

RuleContext context_of(const Problem& problem) {
  RuleContext context;
  context.count = problem.dimension();
  context.ranks = problem.workers();
  return context;
}

}  // namespace

Worker::Worker(const Problem& problem, const DescentOptions& options, int rank)
    : problem_(problem),
      options_(options),
      rank_(rank),
      rule_(make_rule(options.rule, context_of(problem))),
      input_(problem.dimension() * sizeof(float)),
      scratch_(problem.dimension() * sizeof(float)),
      x_(problem.dimension()),
      gradient_(x_.size()),
      sent_gradient_(x_.size()),
      given_(x_.size()),
      taken_(x_.size()) {
  scratch_.fill_zero();
  start_ = distance_squared();
}

void Worker::prepare() {
  problem_.gradient(rank_, x_, gradient_);
  if (options_.sigma > 0) {
    const double deviation = options_.sigma / std::sqrt(static_cast<double>(x_.size()));
    add_gaussian(gradient_, deviation, {options_.seed, step_, rank_});
  }
  const float scale = 1.0F / static_cast<float>(problem_.workers());
  for (std::size_t i = 0; i < x_.size(); ++i) {
    sent_gradient_[i] = static_cast<float>(gradient_[i]);
    given_[i] += static_cast<double>(sent_gradient_[i] * scale);
  }
  rule_->compensate({sent_gradient_.data(), sent_gradient_.size()}, scale, input(), StreamRef::host());
  residual_ = rule_->residual(scratch_.tensor(x_.size()));
  if (residual_.data == nullptr) residual_ = scratch_.tensor(x_.size());
}

void Worker::finish() {
  rule_->absorb(input(), scratch_.tensor(x_.size()), StreamRef::host());
  rule_->commit();
  const auto* const update = static_cast<const float*>(input().data);
  for (std::size_t i = 0; i < x_.size(); ++i) {
    taken_[i] += static_cast<double>(update[i]);
    x_[i] -= options_.rate * static_cast<double>(update[i]);
  }
  ++step_;
}

double Worker::distance_squared() const {
  double squares = 0;
  for (std::size_t i = 0; i < x_.size(); ++i) {
    const double difference = x_[i] - problem_.minimiser()[i];
    squares += difference * difference;
  }
  return squares;
}

/// Empty where the rule has none of that name.
std::vector<float> Worker::state(std::string_view name) const {
  for (const NamedState& state : rule_->state()) {
    if (state.name != name) continue;
    std::vector<float> values(state.values->count());
    state.values->read(values.data());
    return values;
  }
  return {};
}

double Worker::drift(const std::vector<std::unique_ptr<Worker>>& workers) {
  const Worker& first = *workers.front();
  const std::vector<float> mean_estimate = first.state("mean estimate");
  const bool estimates = !mean_estimate.empty();
  if (!estimates && !first.state("momentum").empty()) return std::numeric_limits<double>::quiet_NaN();
  std::vector<double> left(first.x_.size());
  for (std::size_t i = 0; i < left.size(); ++i) {
    left[i] = estimates ? static_cast<double>(mean_estimate[i]) : -first.taken_[i];
  }
  for (const auto& worker : workers) {
    const std::vector<float> owed = worker->state(estimates ? "estimate" : "residual");
    for (std::size_t i = 0; i < left.size(); ++i) {
      if (!estimates) left[i] += worker->given_[i];
      if (!owed.empty()) left[i] -= static_cast<double>(owed[i]);
    }
  }
  double squares = 0;
  for (const double value : left) squares += value * value;
  return std::sqrt(squares);
}

double Worker::owed(const std::vector<std::unique_ptr<Worker>>& workers) {
  double squares = 0;
  for (const auto& worker : workers) {
    for (const float value : worker->state("residual"))
      squares += static_cast<double>(value) * static_cast<double>(value);
  }
  return std::sqrt(squares);
}

}  // namespace gradwire::convergence
