#include "train/planning/planner.hpp"

#include <cstring>

#include "base/clock.hpp"
#include "base/fail.hpp"
#include "base/log.hpp"

namespace gradwire {

Planner::Planner(std::vector<PlannedLayer> layers, double share, std::uint64_t seed, int rank,
                 std::unique_ptr<TraceWriter> trace)
    : layers_(std::move(layers)),
      share_(share),
      seed_(seed),
      rank_(rank),
      trace_(std::move(trace)),
      copies_(layers_.size()),
      sums_(layers_) {
  for (std::size_t l = 0; l < layers_.size(); ++l) copies_[l].values = Buffer(layers_[l].count * sizeof(float));
  if (!inline_only()) thread_ = std::thread([this] { run(); });
}

Planner::~Planner() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Planner::offer(std::size_t layer, ConstTensor sent, std::uint64_t step, double ready_us) {
  const Clock::time_point start = Clock::now();
  Copy& copy = copies_[layer];
  {
    const std::lock_guard lock(mutex_);
    if (copy.waits) return;
  }
  std::memcpy(copy.values.data(), sent.data, sent.bytes());
  {
    const std::lock_guard lock(mutex_);
    copy.step = step;
    copy.ready_us = ready_us;
    copy.waits = true;
    if (!inline_only()) waiting_.push_back(layer);
    times_.snapshot_us += us_since(start);
  }
  inline_only() ? measure(layer) : changed_.notify_all();
}

void Planner::add(const WindowSums::Steps& steps) {
  const std::lock_guard lock(mutex_);
  sums_.add(steps);
}

void Planner::take(std::span<float> out) {
  const std::lock_guard lock(mutex_);
  sums_.pack(out);
  begin_window();
}

void Planner::forget() {
  const std::lock_guard lock(mutex_);
  begin_window();
}

/// Called with the lock.
void Planner::begin_window() {
  sums_.clear();
  for (const std::size_t layer : waiting_) copies_[layer].waits = false;
  waiting_.clear();
  ++window_;
}

/// Called without the lock; the copy waits until the end.
void Planner::measure(std::size_t layer) {
  const Clock::time_point start = Clock::now();
  const PlannedLayer& planned = layers_[layer];
  std::uint64_t window = 0;
  std::uint64_t step = 0;
  double ready_us = 0;
  {
    const std::lock_guard lock(mutex_);
    window = window_;
    step = copies_[layer].step;
    ready_us = copies_[layer].ready_us;
  }
  const ConstTensor values(reinterpret_cast<const float*>(copies_[layer].values.data()), planned.count);
  const LayerSample sample{planned.name, values, planned.shape, {seed_, step, static_cast<ParamId>(planned.param), 0}};
  std::optional<TableLayer> measured;
  try {
    measured = measure_layer(sample, planned.specs, planned.reference);
    trace([&](TraceWriter& to) { to.sample(step, sample, planned.specs[planned.reference]); });
  } catch (const Error& error) {
    // NaN or Inf: the step was dropped, or will tell.
    const bool expected = error.code() == Errc::non_finite;
    log::line(expected ? log::Level::debug : log::Level::error, rank_, "planning: step {} not measured: {}", step,
              error.what());
  } catch (const std::exception& error) {  // memory
    log::line(log::Level::error, rank_, "planning: step {} not measured: {}", step, error.what());
  }
  const std::lock_guard lock(mutex_);
  if (measured && window == window_) sums_.add(layer, *measured, ready_us);
  copies_[layer].waits = false;
  times_.measure_us += us_since(start);
}

void Planner::solve(std::uint64_t step, Table table, std::optional<Policy> policy, PlanQuestion question) {
  Question asked{0, step, std::move(table), std::move(policy), std::move(question)};
  {
    const std::lock_guard lock(mutex_);
    asked.number = ++asked_;
    solved_.reset();
  }
  if (inline_only()) return answer(asked);
  {
    const std::lock_guard lock(mutex_);
    question_ = std::move(asked);
  }
  changed_.notify_all();
}

void Planner::answer(const Question& question) {
  trace([&](TraceWriter& to) { to.table(question.step, question.table); });
  if (!question.policy) return;
  Solved result;
  try {
    result.answer = choose_plan(question.table, *question.policy, question.question);
  } catch (const std::exception& error) {
    result.failure = error.what();
  }
  const std::lock_guard lock(mutex_);
  if (question.number == asked_) solved_ = std::move(result);
}

/// A trace that cannot be written any more ends there; training goes on.
template <class Write>
void Planner::trace(Write&& write) {
  if (!trace_) return;
  try {
    write(*trace_);
  } catch (const Error& error) {
    log::line(log::Level::error, rank_, "the trace ends here: {}", error.what());
    trace_.reset();
  }
}

std::optional<Solved> Planner::solved() {
  const std::lock_guard lock(mutex_);
  return std::exchange(solved_, std::nullopt);
}

Planner::Times Planner::times() const {
  const std::lock_guard lock(mutex_);
  return times_;
}

void Planner::run() {
  Clock::time_point free_at = Clock::now();  // when the share allows the next measurement
  std::unique_lock lock(mutex_);
  for (;;) {
    const bool may_measure = !waiting_.empty() && Clock::now() >= free_at;
    if (stop_) return;
    if (question_) {
      const Question asked = *std::exchange(question_, std::nullopt);
      lock.unlock();
      answer(asked);
      lock.lock();
    } else if (may_measure) {
      const std::size_t layer = waiting_.front();
      waiting_.pop_front();
      lock.unlock();
      const Clock::time_point start = Clock::now();
      measure(layer);
      const Clock::time_point end = Clock::now();
      free_at = end + std::chrono::duration_cast<Clock::duration>((end - start) * (1 / share_ - 1));
      lock.lock();
    } else if (!waiting_.empty()) {
      changed_.wait_until(lock, free_at);
    } else {
      changed_.wait(lock);
    }
  }
}

}  // namespace gradwire
