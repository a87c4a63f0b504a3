#include "train/planning/planner.hpp"

#include <algorithm>
#include <cstring>

#include "base/clock.hpp"
#include "base/fail.hpp"
#include "base/log.hpp"

namespace gradwire {

Planner::Planner(std::vector<PlannedLayer> layers, const HookOptions& options, int rank,
                 std::unique_ptr<TraceWriter> trace)
    : layers_(std::move(layers)),
      share_(options.planning.share),
      seed_(options.seed),
      rank_(rank),
      trace_(std::move(trace)),
      copies_(layers_.size()),
      sums_(layers_) {
  if (options.space == Space::device) {
    on_device_.emplace(layers_, inline_only(), trace_ != nullptr);
  } else {
    for (std::size_t l = 0; l < layers_.size(); ++l) copies_[l].values = Buffer(layers_[l].count * sizeof(float));
  }
  if (!inline_only()) thread_ = std::thread([this] { run(); });
}

Planner::~Planner() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  if (on_device_) on_device_->stop();
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Planner::offer(std::size_t layer, ConstTensor sent, const At& at, StreamRef stream) {
  const Clock::time_point start = Clock::now();
  Copy& copy = copies_[layer];
  {
    const std::lock_guard lock(mutex_);
    if (copy.waits) return;
  }
  try {
    take_sample(layer, sent, at.step, stream);
  } catch (const std::exception& error) {  // memory of the device
    return not_measured(at.step, error.what());
  }
  {
    const std::lock_guard lock(mutex_);
    copy.at = at;
    copy.waits = true;
    if (!inline_only() || on_device_) waiting_.push_back(layer);
    times_.snapshot_us += us_since(start);
  }
  if (!inline_only()) return changed_.notify_all();
  if (!on_device_) measure(layer);
}

void Planner::take_sample(std::size_t layer, ConstTensor sent, std::uint64_t step, StreamRef stream) {
  if (!on_device_) {
    std::memcpy(copies_[layer].values.data(), sent.data, sent.bytes());
  } else if (inline_only()) {
    on_device_->launch(layer, sent, key_of(layer, step), stream);
  } else {
    on_device_->copy(layer, sent, stream);
  }
}

/// Training goes on.
void Planner::not_measured(std::uint64_t step, const char* why, log::Level level) const {
  log::line(level, rank_, "planning: step {} not measured: {}", step, why);
}

void Planner::add(const WindowSums::Steps& steps) {
  if (inline_only()) {  // what the device has measured in this step
    for (const std::size_t layer : std::exchange(waiting_, {})) measure(layer);
  }
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
  std::uint64_t window = 0;
  At at;
  {
    const std::lock_guard lock(mutex_);
    window = window_;
    at = copies_[layer].at;
  }
  std::optional<TableLayer> measured;
  try {
    measured = look_at(layer, at.step);
  } catch (const Error& error) {
    // NaN or Inf: the step was dropped, or will tell. Aborted: by the destructor.
    const bool expected = error.code() == Errc::non_finite || error.code() == Errc::aborted;
    not_measured(at.step, error.what(), expected ? log::Level::debug : log::Level::error);
  } catch (const std::exception& error) {  // memory
    not_measured(at.step, error.what());
  }
  const std::lock_guard lock(mutex_);
  if (measured && window == window_) sums_.add(layer, *measured, at.ready_us);
  copies_[layer].waits = false;
  times_.measure_us += us_since(start);
}

TableLayer Planner::look_at(std::size_t layer, std::uint64_t step) {
  const PlannedLayer& planned = layers_[layer];
  LayerSample sample{planned.name, {}, planned.shape, key_of(layer, step)};
  std::optional<TableLayer> measured;
  if (on_device_) {
    measured = inline_only() ? on_device_->finish(layer) : on_device_->measure(layer, sample.key);
    if (trace_) sample.values = on_device_->values(layer);
  } else {
    sample.values = {reinterpret_cast<const float*>(copies_[layer].values.data()), planned.count};
    measured = measure_layer(sample, planned.specs, planned.reference);
  }
  trace([&](TraceWriter& to) { to.sample(step, sample, planned.specs[planned.reference]); });
  return *measured;
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

/// Called with the lock. On a device time counts from when a copy is there: until then the device is busy with the
/// step.
bool Planner::is_ready(std::size_t layer) const {
  try {
    return !on_device_ || on_device_->is_ready(layer);
  } catch (const Error&) {  // which measuring will meet, and tell
    return true;
  }
}

void Planner::run() {
  Clock::time_point free_at = Clock::now();  // when the share allows the next measurement
  std::unique_lock lock(mutex_);
  for (;;) {
    const bool may_measure = !waiting_.empty() && Clock::now() >= free_at && is_ready(waiting_.front());
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
      constexpr auto kLook = std::chrono::milliseconds(1);  // at what a device has done
      changed_.wait_until(lock, std::max(free_at, Clock::now() + kLook));
    } else {
      changed_.wait(lock);
    }
  }
}

}  // namespace gradwire
