#include "train.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <exception>
#include <mutex>
#include <numbers>
#include <thread>

#include "examples/train_fashion_mnist/fail.hpp"

#include "gradwire/error.hpp"
#include "gradwire/hook.hpp"

namespace training {
namespace {

std::vector<gradwire::ParamInfo> describe(const std::vector<Parameter<float>>& parameters) {
  std::vector<gradwire::ParamInfo> infos;
  for (const Parameter<float>& parameter : parameters) {
    gradwire::ParamInfo info;
    info.id = gradwire::ParamId{static_cast<std::uint32_t>(infos.size())};
    info.name = parameter.name;
    info.shape = parameter.shape;
    infos.push_back(std::move(info));
  }
  return infos;
}

/// One rank's training loop.
class Rank {
 public:
  Rank(const Task& task, const Options& options, const gradwire::Communicator& comm)
      : options_(options),
        replica_(task.make_replica(comm.rank())),
        hook_(comm, describe(replica_->parameters()), hook_options(options)) {
    for (const auto& parameter : replica_->parameters()) {
      velocity_.emplace_back(parameter.values.size());
      squares_.emplace_back(options.is_adam ? parameter.values.size() : 0);
    }
  }

  [[nodiscard]] Replica& replica() { return *replica_; }

  /// Sums over steps, but for the loss and the count of skipped steps.
  Result run() {
    Result sums;
    const int late = options_.steps - std::max(1, options_.steps / 10);
    for (int step = 0; step < options_.steps; ++step) {
      const double loss = replica_->backward();
      if (step >= late) sums.loss += loss / (options_.steps - late);
      auto& parameters = replica_->parameters();
      for (std::size_t i = parameters.size(); i-- > 0;) {
        hook_.ready(gradwire::ParamId{static_cast<std::uint32_t>(i)},
                    {parameters[i].gradient.data(), parameters[i].gradient.size()});
      }
      hook_.finish_step().wait();
      if (options_.is_adam) {
        update_adam(rate(step), step + 1);
      } else {
        update(static_cast<float>(rate(step)));
      }
      const gradwire::StepReport report = hook_.report();
      sums.dense_bytes_per_step += static_cast<double>(report.dense_bytes);
      sums.wire_bytes_per_step += static_cast<double>(report.wire_bytes);
      sums.skipped_steps = report.skipped_steps;
    }
    return sums;
  }

 private:
  [[nodiscard]] double rate(int step) const {
    const double done = static_cast<double>(step) / options_.steps;
    const double warm_up = std::min(1.0, (step + 1) / std::max(1.0, 0.05 * options_.steps));
    return options_.learning_rate * warm_up * 0.5 * (1 + std::cos(std::numbers::pi * done));
  }

  void update(float rate) {
    const auto momentum = static_cast<float>(options_.momentum);
    auto& parameters = replica_->parameters();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      float* const values = parameters[i].values.data();
      const float* const gradient = parameters[i].gradient.data();
      float* const velocity = velocity_[i].data();
      for (std::size_t j = 0; j < velocity_[i].size(); ++j) {
        velocity[j] = momentum * velocity[j] + gradient[j];
        values[j] -= rate * velocity[j];
      }
    }
  }

  /// Kingma and Ba 2015, arXiv:1412.6980, of the mean gradient.
  void update_adam(double rate, int count) {
    constexpr double kBeta2 = 0.99;
    const auto beta1 = static_cast<float>(options_.momentum);
    const auto beta2 = static_cast<float>(kBeta2);
    const double unbiased = std::sqrt(1 - std::pow(kBeta2, count)) / (1 - std::pow(options_.momentum, count));
    const auto length = static_cast<float>(rate * unbiased);
    auto& parameters = replica_->parameters();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      for (std::size_t j = 0; j < velocity_[i].size(); ++j) {
        const float gradient = parameters[i].gradient[j];
        velocity_[i][j] = beta1 * velocity_[i][j] + (1 - beta1) * gradient;
        squares_[i][j] = beta2 * squares_[i][j] + (1 - beta2) * gradient * gradient;
        parameters[i].values[j] -= length * velocity_[i][j] / (std::sqrt(squares_[i][j]) + 1e-8F);
      }
    }
  }

  const Options& options_;
  std::unique_ptr<Replica> replica_;
  gradwire::GradientHook hook_;
  std::vector<std::vector<float>> velocity_;
  std::vector<std::vector<float>> squares_;  // of Adam
};

/// The failure to tell: the first, but for `aborted`, the echo of another rank's.
class FirstFailure {
 public:
  void keep(std::exception_ptr failure, bool is_echo) {
    const std::lock_guard lock(mutex_);
    if (failure_ && (is_echo || !is_echo_)) return;
    failure_ = std::move(failure);
    is_echo_ = is_echo;
  }
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr failure_;
  bool is_echo_ = false;
};

void expect_same(Replica& a, Replica& b, std::size_t rank) {
  for (std::size_t i = 0; i < a.parameters().size(); ++i) {
    const auto& mine = a.parameters()[i];
    const auto& other = b.parameters()[i];
    demo::require(std::memcmp(mine.values.data(), other.values.data(), mine.values.size() * sizeof(float)) == 0,
                  "{} of rank {} differs from rank 0's after training", mine.name, rank);
  }
}

}  // namespace

Result train(const Task& task, const Options& options) {
  const std::vector<gradwire::Communicator> comms = gradwire::make_local(options.ranks);
  std::vector<std::unique_ptr<Rank>> ranks(comms.size());
  std::vector<Result> results(comms.size());
  FirstFailure failure;
  const auto start = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < comms.size(); ++i) {
      threads.emplace_back([&, i] {
        try {
          ranks[i] = std::make_unique<Rank>(task, options, comms[i]);
          results[i] = ranks[i]->run();
        } catch (const gradwire::Error& error) {
          failure.keep(std::current_exception(), error.code() == gradwire::Errc::aborted);
          comms[i].transport().abort("training failed");
        } catch (...) {
          failure.keep(std::current_exception(), false);
          comms[i].transport().abort("training failed");
        }
      });
    }
  }
  failure.rethrow();
  Result mean;
  mean.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double count = options.ranks;
  for (const Result& result : results) {
    mean.loss += result.loss / count;
    mean.dense_bytes_per_step += result.dense_bytes_per_step / count / options.steps;
    mean.wire_bytes_per_step += result.wire_bytes_per_step / count / options.steps;
  }
  mean.skipped_steps = results.front().skipped_steps;
  for (std::size_t i = 1; i < ranks.size(); ++i) expect_same(ranks[0]->replica(), ranks[i]->replica(), i);
  mean.score = ranks[0]->replica().score();
  return mean;
}

}  // namespace training
