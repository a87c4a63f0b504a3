#include "trainer.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <boost/timer/progress_display.hpp>

#include <chrono>
#include <cmath>
#include <iostream>
#include <numbers>

#include "fail.hpp"
#include "gradient_tap.hpp"
#include "network.hpp"

#include "gradwire/allreduce.hpp"

namespace demo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kWeightDecay = 5e-4;
constexpr gradwire::Slot kTotalsSlot{gradwire::kMaxSlot};

gradwire::Deadline in_a_minute() { return Clock::now() + std::chrono::minutes(1); }

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Everything that has to be the same on all ranks for them to train one model.
std::vector<gradwire::Agreement> agreements(const Options& o, const Dataset& data) {
  return {{"--epochs", fmt::format("{}", o.epochs)},    {"--batch", fmt::format("{}", o.batch)},
          {"--lr", fmt::format("{}", o.learning_rate)}, {"--momentum", fmt::format("{}", o.momentum)},
          {"--seed", fmt::format("{}", o.seed)},        {"training images", fmt::format("{}", data.train.size())}};
}

/// Replaces each rank's values by their mean over ranks.
void average_over_ranks(const gradwire::Communicator& comm, std::initializer_list<double*> values) {
  std::vector<float> sums;
  for (const double* value : values) sums.push_back(static_cast<float>(*value));
  const gradwire::Item item{.tensor = {sums.data(), sums.size()},
                            .residual = {},
                            .compressor = gradwire::make_compressor("none"),
                            .param = {}};
  gradwire::allreduce_sum(comm, {&item, 1}, kTotalsSlot, gradwire::StreamRef::host(), {.algorithm = "dense"}).wait();
  auto sum = sums.begin();
  for (double* value : values) *value = *sum++ / static_cast<double>(comm.size());
}

class Trainer {
 public:
  Trainer(const gradwire::Communicator& comm, const Dataset& dataset, const Options& options)
      : comm_(comm),
        dataset_(dataset),
        options_(options),
        steps_per_epoch_(dataset.train.size() / (std::int64_t{options.batch} * comm.size())),
        network_(options.seed),
        hook_(comm, describe_parameters(network_), hook_options(options)),
        tap_(network_, hook_),
        optimizer_(
            network_.parameters(),
            torch::optim::SGDOptions(options.learning_rate).momentum(options.momentum).weight_decay(kWeightDecay)) {
    require(steps_per_epoch_ >= 1, "--batch {}: {} ranks need {} images a step, there are {}", options.batch,
            comm.size(), std::int64_t{options.batch} * comm.size(), dataset.train.size());
  }

  Summary run() {
    comm_.agree(agreements(options_, dataset_), in_a_minute());
    if (comm_.rank() == 0 && !options_.is_quiet) {
      progress_.emplace(static_cast<unsigned long>(total_steps()), std::cerr);
    }
    const auto start = Clock::now();
    for (int epoch = 0; epoch < options_.epochs; ++epoch) train_epoch(epoch);
    mine_.seconds = seconds_since(start);
    const double correct = count_correct();
    comm_.agree({{{"fingerprint of the trained weights", fmt::format("{:016x}", fingerprint(network_))}}},
                in_a_minute());
    return summarise(correct);
  }

 private:
  [[nodiscard]] std::int64_t total_steps() const { return steps_per_epoch_ * options_.epochs; }

  void train_epoch(int epoch) {
    // Every rank draws the same order and takes its own part of each step: shards never overlap.
    const auto generator =
        at::make_generator<at::CPUGeneratorImpl>(options_.seed * 1'000'003 + 1 + static_cast<std::uint64_t>(epoch));
    const torch::Tensor order = torch::randperm(dataset_.train.size(), generator, torch::kInt64);
    mine_.loss = 0;
    for (std::int64_t step = 0; step < steps_per_epoch_; ++step) {
      const std::int64_t first = (step * comm_.size() + comm_.rank()) * options_.batch;
      set_learning_rate(epoch * steps_per_epoch_ + step);
      train_step(make_batch(dataset_.train, order.slice(0, first, first + options_.batch)));
      if (progress_) ++*progress_;
    }
  }

  void train_step(const Batch& batch) {
    tap_.zero();
    const torch::Tensor loss = torch::cross_entropy_loss(network_.forward(batch.images), batch.labels);
    loss.backward();  // the tap hands gradients over while this runs
    hook_.finish_step().wait();
    optimizer_.step();
    mine_.loss += loss.item<double>();
    account(hook_.report());
  }

  void account(const gradwire::StepReport& report) {
    mine_.dense_bytes_per_step += static_cast<double>(report.dense_bytes);
    mine_.wire_bytes_per_step += static_cast<double>(report.wire_bytes);
    mine_.exposed_seconds += report.exposed_us * 1e-6;
    mine_.encode_seconds += report.encode_us * 1e-6;
    mine_.decode_seconds += report.decode_us * 1e-6;
  }

  void set_learning_rate(std::int64_t step) {
    const auto done = static_cast<double>(step) / static_cast<double>(total_steps());
    const auto warm_up = std::min(1.0, static_cast<double>(step + 1) / (0.5 * static_cast<double>(steps_per_epoch_)));
    const double rate = options_.learning_rate * warm_up * 0.5 * (1 + std::cos(std::numbers::pi * done));
    for (auto& group : optimizer_.param_groups()) group.options().set_lr(rate);
  }

  /// How many test images of this rank's share the network names rightly.
  double count_correct() {
    constexpr std::int64_t kPiece = 500;  // images at once, to bound memory
    const torch::NoGradGuard no_grad;
    double correct = 0;
    const std::int64_t size = dataset_.test.size();
    const std::int64_t end = size * (comm_.rank() + 1) / comm_.size();
    for (std::int64_t first = size * comm_.rank() / comm_.size(); first < end; first += kPiece) {
      const Batch batch = make_batch(dataset_.test, torch::arange(first, std::min(first + kPiece, end)));
      correct += network_.forward(batch.images).argmax(1).eq(batch.labels).sum().item<double>();
    }
    return correct;
  }

  [[nodiscard]] Summary summarise(double correct) const {
    Summary s = mine_;
    s.compressor = options_.compressor;
    s.feedback = options_.feedback;
    s.algorithm = options_.algorithm;
    s.transport = comm_.transport().info().name;
    s.ranks = comm_.size();
    s.epochs = options_.epochs;
    s.seed = options_.seed;
    s.steps = static_cast<std::uint64_t>(total_steps());
    s.params = hook_.report().params;
    for (const gradwire::ParamReport& param : s.params) s.parameters += param.count;

    s.loss /= static_cast<double>(steps_per_epoch_);
    s.dense_bytes_per_step /= static_cast<double>(total_steps());
    s.wire_bytes_per_step /= static_cast<double>(total_steps());
    average_over_ranks(comm_, {&correct, &s.loss, &s.dense_bytes_per_step, &s.wire_bytes_per_step, &s.seconds,
                               &s.exposed_seconds, &s.encode_seconds, &s.decode_seconds});
    s.test_accuracy = correct * comm_.size() / static_cast<double>(dataset_.test.size());
    return s;
  }

  const gradwire::Communicator& comm_;
  const Dataset& dataset_;
  const Options& options_;
  const std::int64_t steps_per_epoch_;
  Network network_;
  gradwire::GradientHook hook_;
  GradientTap tap_;
  torch::optim::SGD optimizer_;
  std::optional<boost::timer::progress_display> progress_;
  Summary mine_;  // sums over this rank's steps; of the loss, over those of the epoch
};

}  // namespace

Summary train(const gradwire::Communicator& comm, const Dataset& dataset, const Options& options) {
  return Trainer(comm, dataset, options).run();
}

}  // namespace demo
