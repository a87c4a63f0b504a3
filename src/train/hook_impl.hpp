#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/deadline.hpp"
#include "base/device.hpp"
#include "base/env.hpp"
#include "base/fail.hpp"
#include "train/step_engine.hpp"

#include "gradwire/hook.hpp"

namespace gradwire {

/// Shared between the training thread, which registers gradients and waits, and the progress thread (or, without one,
/// the caller), which drives the engine. Everything but the engine is under mutex_.
class GradientHook::Impl final : public Completion {
 public:
  Impl(Communicator comm, std::vector<ParamInfo> params, HookOptions options);
  ~Impl() override = default;

  /// Called once, by the hook's destructor: nobody else may call from now on, but the step's Work stays answerable.
  void shut_down() noexcept;

  /// `zero`: the gradient is zeros, whatever its memory holds.
  void ready(ParamId id, const Tensor& gradient, StreamRef stream, bool zero = false);

  void accumulate(bool on);
  void rescale(double from, double to);
  void set_frozen(ParamId id, bool frozen);
  void set_plan(const Plan& plan);

  /// What `ask` finds in the planning's books between two steps.
  template <class Ask>
  [[nodiscard]] auto planning(const char* call, Ask&& ask) const {
    const std::lock_guard lock(mutex_);
    require(!finishing_ || done_, "{}: the step's Work is not done yet", call);
    return ask(engine_->agenda());
  }

  void save(const std::string& folder);
  void load(const std::string& folder);
  [[nodiscard]] bool skipped() const {
    const std::lock_guard lock(mutex_);
    return report_.skipped;
  }

  void finish_step();
  void progress();
  bool poll() override;
  void wait(Deadline deadline) override;
  [[nodiscard]] std::string describe() const override;
  [[nodiscard]] StepReport report() const;
  [[nodiscard]] const StepEngine& engine() const noexcept { return *engine_; }

 private:
  [[nodiscard]] std::size_t find(ParamId id, const char* call) const;

  /// The engine is the driving thread's while a step is under way; between steps it rests.
  template <class Action>
  void between_steps(const char* call, Action&& action) {
    const device::Scope scope(device_);
    const std::lock_guard lock(mutex_);
    if (failure_) std::rethrow_exception(failure_);
    require(ready_count_ == 0 && !finishing_, "{}: in mid-step; it is for between a step's Work and the next ready()",
            call);
    action();
  }

  [[nodiscard]] Deadline registration_deadline() const {
    return deadline_after(options_.timeout.count() > 0 ? options_.timeout : environment().timeout);
  }

  void register_with_the_others();
  void log_missing() const;
  void begin_step();
  /// Reports how the step ended; false while it has not.
  bool outcome();

  /// Whether the next bucket can go: all its gradients are there, or the step ends without some of them.
  [[nodiscard]] bool launchable() const {
    return engine_->has_room() && (missing_[engine_->next_bucket()] == 0 || finishing_);
  }

  /// Hands the next bucket's gradients to the engine; a verdict if some never came.
  std::optional<Verdict> hand_over();

  /// One round of launching and advancing; true when anything moved.
  bool drive();

  void end_step();

  /// Ranks are out of step: every call from now on gives this error.
  void fail_hook(std::exception_ptr failure);

  /// The hook's own thread.
  void run();
  void drive_until_stopped();

  Communicator comm_;
  const std::vector<ParamInfo> params_;
  const HookOptions options_;
  int device_ = -1;  // of gradients, whichever a calling thread has; -1: host memory
  std::shared_ptr<void> claim_;
  std::unordered_map<ParamId, std::size_t> index_;
  std::optional<StepEngine> engine_;  // touched by the driving thread only, once a step is under way

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Tensor> gradients_;     // of this step; null data: not ready
  std::vector<double> ready_us_;      // of each, from the first one
  std::vector<std::size_t> missing_;  // gradients that each bucket waits for
  std::size_t ready_count_ = 0;
  std::size_t awaited_ = 0;  // gradients of a step
  int no_syncs_ = 0;         // of no_sync() that are alive
  bool finishing_ = false;
  bool done_ = false;  // the last finished step's Work
  bool stop_ = false;
  Clock::time_point first_ready_;
  Clock::time_point finish_called_;
  std::exception_ptr failure_;         // for good
  std::exception_ptr agreed_failure_;  // of the last step
  StepReport report_;
  std::thread thread_;
};

}  // namespace gradwire
