#include "trainer.hpp"

#include <boost/timer/progress_display.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iostream>
#include <numbers>
#include <numeric>
#include <random>
#include <sstream>

#include "fail.hpp"
#include "journal.hpp"
#include "learner.hpp"
#include "recorder.hpp"

#include "gradwire/allreduce.hpp"

namespace demo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr gradwire::Slot kTotalsSlot{0};

gradwire::Deadline in_a_minute() { return Clock::now() + std::chrono::minutes(1); }

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Everything that has to be the same on all ranks for them to train one model.
std::vector<gradwire::Agreement> agreements(const Options& o, const Dataset& data) {
  return {{"--epochs", fmt::format("{}", o.epochs)},
          {"--batch", fmt::format("{}", o.batch)},
          {"--lr", fmt::format("{}", o.optimizer.learning_rate)},
          {"--momentum", fmt::format("{}", o.optimizer.momentum)},
          {"--seed", fmt::format("{}", o.seed)},
          {"training images", fmt::format("{}", data.train.size())}};
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

gradwire::Plan read_plan(const std::string& path) {
  std::ifstream file(path);
  require(file.is_open(), "--plan {}: cannot open it", path);
  std::ostringstream text;
  text << file.rdbuf();
  try {
    return gradwire::plan_from_json(text.str());
  } catch (const gradwire::Error& error) {
    throw std::runtime_error(fmt::format("--plan {}: {}", path, error.what()));
  }
}

/// In forward order, as the hook wants them; ids are positions.
std::vector<gradwire::ParamInfo> describe(const std::vector<Learner::Parameter>& parameters) {
  std::vector<gradwire::ParamInfo> infos;
  for (const Learner::Parameter& parameter : parameters) {
    gradwire::ParamInfo info;
    info.id = gradwire::ParamId{static_cast<std::uint32_t>(infos.size())};
    info.name = parameter.name;
    info.shape = parameter.shape;
    infos.push_back(std::move(info));
  }
  return infos;
}

std::vector<std::int64_t> first_numbers(std::int64_t count) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

class Trainer {
 public:
  Trainer(const gradwire::Communicator& comm, const Dataset& dataset, const Options& options)
      : comm_(comm),
        dataset_(dataset),
        options_(options),
        steps_per_epoch_(dataset.train.size() / (std::int64_t{options.batch} * comm.size())),
        random_(options.seed),
        order_(first_numbers(dataset.train.size())),
        learner_(options.seed, options.optimizer, options.place),
        hook_(comm, describe(learner_.parameters()), hook_options(options, steps_per_epoch_)) {
    require(steps_per_epoch_ >= 1, "--batch {}: {} ranks need {} images a step, there are {}", options.batch,
            comm.size(), std::int64_t{options.batch} * comm.size(), dataset.train.size());
    if (comm.rank() == 0 && !options.record.empty()) recorder_.emplace(options.record, learner_.parameters());
    if (!options.plan.empty()) hook_.set_plan(read_plan(options.plan));
    if (comm.rank() == 0 && !options.report.empty()) journal_.emplace(options, comm);
  }

  Summary run() {
    comm_.agree(agreements(options_, dataset_), in_a_minute());
    if (comm_.rank() == 0 && !options_.is_quiet) {
      progress_.emplace(static_cast<unsigned long>(total_steps()), std::cerr);
    }
    const auto start = Clock::now();
    double testing = 0;  // seconds
    double correct = 0;
    for (int epoch = 0; epoch < options_.epochs; ++epoch) {
      train_epoch(epoch);
      const auto trained = Clock::now();
      const bool is_last = epoch + 1 == options_.epochs;
      if (is_last || !options_.report.empty()) correct = count_correct();
      if (!options_.report.empty()) log_accuracy((epoch + 1) * steps_per_epoch_, correct);
      testing += seconds_since(trained);
    }
    mine_.seconds = seconds_since(start) - testing;
    comm_.agree({{{"fingerprint of the trained weights", fmt::format("{:016x}", learner_.fingerprint())}}},
                in_a_minute());
    return summarise(correct);
  }

 private:
  [[nodiscard]] std::int64_t total_steps() const { return steps_per_epoch_ * options_.epochs; }

  void train_epoch(int epoch) {
    // Every rank shuffles alike and takes its own part of each step: shards never overlap.
    std::shuffle(order_.begin(), order_.end(), random_);
    mine_.loss = 0;
    for (std::int64_t step = 0; step < steps_per_epoch_; ++step) {
      const auto first = order_.begin() + (step * comm_.size() + comm_.rank()) * options_.batch;
      const bool recorded = recorder_ && step + 1 == steps_per_epoch_;
      train_step({first, first + options_.batch}, learning_rate(epoch * steps_per_epoch_ + step),
                 recorded ? fmt::format("epoch{}", epoch + 1) : "");
      if (progress_) ++*progress_;
    }
  }

  /// All that a training loop has to do for gradwire: ready() for each gradient, finish_step(), wait.
  void train_step(const std::vector<std::int64_t>& images, double rate, const std::string& record_as) {
    mine_.loss += learner_.backward(dataset_.train, images, [&](const Learner::Gradient& gradient) {
      if (!record_as.empty()) recorder_->write(record_as, gradient);
      const bool on_host = options_.place == Place::host;
      hook_.ready(gradwire::ParamId{static_cast<std::uint32_t>(gradient.parameter)},
                  {gradient.data, gradient.count, gradwire::DType::f32,
                   on_host ? gradwire::Space::host : gradwire::Space::device},
                  on_host ? gradwire::StreamRef::host() : gradwire::StreamRef::legacy_default());
    });
    hook_.finish_step().wait();
    learner_.update(rate);
    const gradwire::StepReport report = hook_.report();
    account(report);
    if (journal_) journal_->step(report, hook_);
  }

  void account(const gradwire::StepReport& report) {
    mine_.dense_bytes_per_step += static_cast<double>(report.dense_bytes);
    mine_.wire_bytes_per_step += static_cast<double>(report.wire_bytes);
    mine_.exposed_seconds += report.exposed_us * 1e-6;
    mine_.encode_seconds += report.encode_us * 1e-6;
    mine_.decode_seconds += report.decode_us * 1e-6;
  }

  [[nodiscard]] double learning_rate(std::int64_t step) const {
    const auto done = static_cast<double>(step) / static_cast<double>(total_steps());
    const auto warm_up = std::min(1.0, static_cast<double>(step + 1) / (0.5 * static_cast<double>(steps_per_epoch_)));
    return options_.optimizer.learning_rate * warm_up * 0.5 * (1 + std::cos(std::numbers::pi * done));
  }

  /// How many test images of this rank's share the network names rightly.
  double count_correct() {
    constexpr std::int64_t kPiece = 500;  // images at once, to bound memory
    const std::vector<std::int64_t> all = first_numbers(dataset_.test.size());
    const std::int64_t end = dataset_.test.size() * (comm_.rank() + 1) / comm_.size();
    std::int64_t correct = 0;
    for (std::int64_t first = dataset_.test.size() * comm_.rank() / comm_.size(); first < end; first += kPiece) {
      correct +=
          learner_.count_correct(dataset_.test, {all.begin() + first, all.begin() + std::min(first + kPiece, end)});
    }
    return static_cast<double>(correct);
  }

  void log_accuracy(std::int64_t step, double correct) {
    average_over_ranks(comm_, {&correct});
    const double accuracy = correct * comm_.size() / static_cast<double>(dataset_.test.size());
    if (journal_) journal_->accuracy(static_cast<std::uint64_t>(step), accuracy);
  }

  [[nodiscard]] Summary summarise(double correct) {
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
    s.policy = options_.policy;
    if (!options_.policy.empty() || !options_.plan.empty()) {
      s.plan = hook_.plan();
      s.table = hook_.table();
    }
    for (const gradwire::ParamReport& param : s.params) s.parameters += param.count;

    s.loss /= static_cast<double>(steps_per_epoch_);
    s.dense_bytes_per_step /= static_cast<double>(total_steps());
    s.wire_bytes_per_step /= static_cast<double>(total_steps());
    average_over_ranks(comm_, {&correct, &s.loss, &s.dense_bytes_per_step, &s.wire_bytes_per_step, &s.seconds,
                               &s.exposed_seconds, &s.encode_seconds, &s.decode_seconds});
    s.test_accuracy = correct * comm_.size() / static_cast<double>(dataset_.test.size());
    if (journal_) journal_->write();
    return s;
  }

  const gradwire::Communicator& comm_;
  const Dataset& dataset_;
  const Options& options_;
  const std::int64_t steps_per_epoch_;
  std::mt19937_64 random_;
  std::vector<std::int64_t> order_;  // of the training images
  Learner learner_;
  gradwire::GradientHook hook_;
  std::optional<Recorder> recorder_;
  std::optional<Journal> journal_;
  std::optional<boost::timer::progress_display> progress_;
  Summary mine_;  // sums over this rank's steps; of the loss, over those of the epoch
};

}  // namespace

Summary train(const gradwire::Communicator& comm, const Dataset& dataset, const Options& options) {
  return Trainer(comm, dataset, options).run();
}

}  // namespace demo
