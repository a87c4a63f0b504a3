#include "gradwire/hook.hpp"

#include <cmath>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "base/backoff.hpp"
#include "base/deadline.hpp"
#include "base/env.hpp"
#include "base/fail.hpp"
#include "base/log.hpp"
#include "train/checkpoint.hpp"
#include "train/registration.hpp"
#include "train/step_engine.hpp"

namespace gradwire {
namespace {

using Clock = std::chrono::steady_clock;

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

}  // namespace

/// Shared between the training thread, which registers gradients and waits, and the progress thread (or, without one,
/// the caller), which drives the engine. Everything but the engine is under mutex_.
class GradientHook::Impl final : public Completion {
 public:
  Impl(Communicator comm, std::vector<ParamInfo> params, HookOptions options)
      : comm_(std::move(comm)),
        params_(std::move(params)),
        options_(std::move(options)),
        claim_(comm_.claim("a GradientHook")),
        gradients_(params_.size()) {
    register_with_the_others();
    for (std::size_t i = 0; i < params_.size(); ++i) index_.emplace(params_[i].id, i);
    begin_step();
    if (options_.library_thread) thread_ = std::thread([this] { run(); });
  }

  ~Impl() override = default;

  /// Called once, by the hook's destructor: nobody else may call from now on, but the step's Work stays answerable.
  void shut_down() noexcept {
    bool in_mid_step = false;
    {
      const std::lock_guard lock(mutex_);
      in_mid_step = !failure_ && (ready_count_ > 0 || finishing_);
      stop_ = true;
      if (in_mid_step) {
        failure_ = std::make_exception_ptr(Error(Errc::aborted, "the hook was destroyed in mid-step"));
      }
    }
    if (in_mid_step) comm_.transport().abort("the hook was destroyed in mid-step");
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
    claim_.reset();  // a Work that is kept longer must not keep the communicator from others
  }

  /// `zero`: the gradient is zeros, whatever its memory holds.
  void ready(ParamId id, const Tensor& gradient, StreamRef stream, bool zero = false) {
    const std::size_t i = find(id, zero ? "unused" : "ready");
    check_gradient(params_[i], engine_->plan(i).count, gradient, stream);
    {
      const std::lock_guard lock(mutex_);
      if (failure_) std::rethrow_exception(failure_);
      if (guards_ > 0) return;
      require(!finishing_, "ready: parameter '{}' came after finish_step() and before its Work was done",
              params_[i].name);
      require(gradients_[i].data == nullptr, "ready: parameter '{}' was ready already in this step", params_[i].name);
      require(!engine_->frozen(i), "ready: parameter '{}' is frozen", params_[i].name);
      if (zero) std::memset(gradient.data, 0, gradient.bytes());
      gradients_[i] = gradient;
      ++ready_count_;
      --missing_[engine_->bucket_of(i)];
    }
    options_.library_thread ? changed_.notify_all() : progress();
  }

  void accumulate(bool on) {
    const std::lock_guard lock(mutex_);
    require(!on || (ready_count_ == 0 && !finishing_), "no_sync: in mid-step");
    on ? ++guards_ : --guards_;
  }

  void rescale(double from, double to) {
    require(std::isfinite(from) && std::isfinite(to) && from > 0 && to > 0,
            "rescale: loss scales are finite and above 0, given {} and {}", from, to);
    require(to / from >= 0x1p-60 && to / from <= 0x1p60,
            "rescale: from {} to {} is by {}; squares of gradients are kept as f32, so by 2^-60 to 2^60 at most", from,
            to, to / from);
    between_steps("rescale", [&] { engine_->rescale(static_cast<float>(to / from)); });
  }

  void set_frozen(ParamId id, bool frozen) {
    const std::size_t i = find(id, "set_frozen");
    between_steps("set_frozen", [&] {
      if (engine_->frozen(i) == frozen) return;
      engine_->set_frozen(i, frozen);
      begin_step();
    });
  }

  void save(const std::string& folder) {
    SavedState state;
    between_steps("save", [&] { state = EngineState(*engine_, comm_, options_.average).save(); });
    save_in(folder, state);
  }

  void load(const std::string& folder) {
    between_steps("load", [&] {
      EngineState live(*engine_, comm_, options_.average);
      load_together(comm_, registration_deadline(), live, folder);
      report_ = engine_->totals();
      report_.step = engine_->step();
      begin_step();
    });
  }

  [[nodiscard]] bool skipped() const {
    const std::lock_guard lock(mutex_);
    return report_.skipped;
  }

  void finish_step() {
    {
      const std::lock_guard lock(mutex_);
      if (failure_) std::rethrow_exception(failure_);
      require(guards_ == 0, "finish_step: a no_sync() guard is alive, this step's gradients are only accumulated");
      require(!finishing_, "finish_step: the last step's Work is not done yet");
      finishing_ = true;
      done_ = false;
      finish_called_ = Clock::now();
      if (ready_count_ < awaited_) log_missing();
    }
    options_.library_thread ? changed_.notify_all() : progress();
  }

  void progress() {
    require(!options_.library_thread, "progress: the hook's own thread drives it (HookOptions::library_thread)");
    drive();
  }

  bool poll() override {
    if (!options_.library_thread) drive();
    const std::lock_guard lock(mutex_);
    return outcome();
  }

  void wait(Deadline deadline) override {
    if (!options_.library_thread) return Completion::wait(deadline);
    std::unique_lock lock(mutex_);
    const auto settled = [this] { return done_ || failure_ != nullptr; };
    if (deadline == Deadline::max()) {
      changed_.wait(lock, settled);  // every operation inside has a deadline of its own
    } else if (!changed_.wait_until(lock, deadline, settled)) {
      fail(Errc::timeout, "deadline passed in {}", describe());
    }
    outcome();
  }

  [[nodiscard]] std::string describe() const override {
    const std::string in_flight = engine_->describe();
    return fmt::format("the hook's step on rank {}{}{}", comm_.rank(), in_flight.empty() ? "" : ": ", in_flight);
  }

  [[nodiscard]] StepReport report() const {
    StepReport report;
    {
      const std::lock_guard lock(mutex_);
      require(!finishing_ || done_, "report: the step's Work is not done yet");
      report = report_;
    }
    for (std::size_t i = 0; i < params_.size(); ++i) {
      const ParamScheme& scheme = engine_->last_scheme(i);
      report.params.push_back({params_[i].name, scheme.dense() ? "dense" : scheme.compressor, scheme.rule,
                               engine_->plan(i).count, engine_->residual_norm(i)});
    }
    return report;
  }

  [[nodiscard]] const StepEngine& engine() const noexcept { return *engine_; }

 private:
  [[nodiscard]] std::size_t find(ParamId id, const char* call) const {
    const auto found = index_.find(id);
    require(found != index_.end(), "{}: no parameter has id {}", call, static_cast<std::uint32_t>(id));
    return found->second;
  }

  /// The engine is the driving thread's while a step is under way; between steps it rests.
  template <class Action>
  void between_steps(const char* call, Action&& action) {
    const std::lock_guard lock(mutex_);
    if (failure_) std::rethrow_exception(failure_);
    require(ready_count_ == 0 && !finishing_, "{}: in mid-step; it is for between a step's Work and the next ready()",
            call);
    action();
  }

  [[nodiscard]] Deadline registration_deadline() const {
    return deadline_after(options_.timeout.count() > 0 ? options_.timeout : environment().timeout);
  }

  void register_with_the_others() {
    prepare_together(comm_, registration_deadline(), "the registration", [this] {
      if (options_.library_thread) require_any_thread(comm_.transport().info());
      engine_.emplace(comm_, params_, options_);
      return describe_registration(params_, options_, *engine_);
    });
  }

  void log_missing() const {
    std::string names;
    for (std::size_t i = 0; i < params_.size(); ++i) {
      if (gradients_[i].data == nullptr && !engine_->frozen(i)) names += " '" + params_[i].name + "'";
    }
    log::line(log::Level::warn, comm_.rank(), "finish_step: gradients missing:{}", names);
  }

  void begin_step() {
    std::fill(gradients_.begin(), gradients_.end(), Tensor{});
    missing_.resize(engine_->bucket_count());
    awaited_ = 0;
    for (std::size_t bucket = 0; bucket < missing_.size(); ++bucket) {
      missing_[bucket] = engine_->bucket_size(bucket);
      awaited_ += missing_[bucket];
    }
    ready_count_ = 0;
    finishing_ = false;
  }

  /// Reports how the step ended; false while it has not.
  bool outcome() {
    if (failure_) std::rethrow_exception(failure_);
    if (!done_) return false;
    if (agreed_failure_) std::rethrow_exception(agreed_failure_);
    return true;
  }

  /// Whether the next bucket can go: all its gradients are there, or the step ends without some of them.
  [[nodiscard]] bool launchable() const {
    return engine_->has_room() && (missing_[engine_->next_bucket()] == 0 || finishing_);
  }

  /// Hands the next bucket's gradients to the engine; a verdict if some never came.
  std::optional<Verdict> hand_over() {
    const std::size_t bucket = engine_->next_bucket();
    std::optional<Verdict> refusal;
    for (std::size_t i = params_.size(); i-- > 0;) {
      if (engine_->bucket_of(i) != bucket) continue;
      engine_->set_gradient(i, gradients_[i]);
      if (gradients_[i].data == nullptr) refusal = Verdict{Errc::invalid_argument, comm_.rank(), params_[i].id};
    }
    return refusal;
  }

  /// One round of launching and advancing; true when anything moved.
  bool drive() {
    bool moved = false;
    try {
      for (;;) {
        std::optional<Verdict> refusal;
        {
          const std::lock_guard lock(mutex_);
          if (failure_ || stop_ || !launchable()) break;
          refusal = hand_over();
        }
        engine_->launch(refusal);
        moved = true;
      }
      if (engine_->in_flight()) moved = engine_->advance() || moved;
      if (engine_->step_done()) end_step();
    } catch (...) {
      fail_hook(std::current_exception());
    }
    return moved;
  }

  void end_step() {
    const std::lock_guard lock(mutex_);
    if (!finishing_) return;
    agreed_failure_ = nullptr;
    try {
      engine_->end_step();
    } catch (const Error&) {
      agreed_failure_ = std::current_exception();
    }
    report_ = engine_->totals();
    report_.step = engine_->step();
    report_.exposed_us = us_since(finish_called_);
    begin_step();
    done_ = true;
    changed_.notify_all();
  }

  /// Ranks are out of step: every call from now on gives this error.
  void fail_hook(std::exception_ptr failure) {
    // The operation has said why where it could. Ranks that differ find so each for itself, unless this comes first.
    std::string why = "an exception of unknown type";
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& error) {
      why = error.what();
    } catch (...) {
    }
    comm_.transport().abort("the hook failed: " + why);
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::move(failure);
    changed_.notify_all();
  }

  void run() {
    Backoff backoff;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] {
          return stop_ || failure_ || launchable() || engine_->in_flight() || (engine_->step_done() && finishing_);
        });
        if (stop_ || failure_) return;
      }
      if (drive()) {
        backoff.reset();
      } else {
        backoff.pause();
      }
    }
  }

  Communicator comm_;
  const std::vector<ParamInfo> params_;
  const HookOptions options_;
  std::shared_ptr<void> claim_;
  std::unordered_map<ParamId, std::size_t> index_;
  std::optional<StepEngine> engine_;  // touched by the driving thread only, once a step is under way

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Tensor> gradients_;     // of this step; null data: not ready
  std::vector<std::size_t> missing_;  // gradients that each bucket waits for
  std::size_t ready_count_ = 0;
  std::size_t awaited_ = 0;  // gradients of a step
  int guards_ = 0;           // of no_sync() that are alive
  bool finishing_ = false;
  bool done_ = false;  // the last finished step's Work
  bool stop_ = false;
  Clock::time_point finish_called_;
  std::exception_ptr failure_;         // for good
  std::exception_ptr agreed_failure_;  // of the last step
  StepReport report_;
  std::thread thread_;
};

GradientHook::GradientHook(Communicator comm, std::vector<ParamInfo> params, HookOptions options)
    : impl_(std::make_shared<Impl>(std::move(comm), std::move(params), std::move(options))) {}
GradientHook::GradientHook(GradientHook&&) noexcept = default;
GradientHook& GradientHook::operator=(GradientHook&& other) noexcept {
  std::swap(impl_, other.impl_);
  return *this;
}
GradientHook::~GradientHook() {
  if (impl_) impl_->shut_down();
}

void GradientHook::ready(ParamId param, Tensor gradient, StreamRef stream) { impl_->ready(param, gradient, stream); }

Work GradientHook::finish_step() {
  impl_->finish_step();
  return Work(impl_);
}

void GradientHook::unused(ParamId param, Tensor gradient) { impl_->ready(param, gradient, StreamRef::host(), true); }
GradientHook::NoSync GradientHook::no_sync() {
  impl_->accumulate(true);
  return NoSync(impl_.get(), [impl = impl_](void*) { impl->accumulate(false); });
}
void GradientHook::rescale(double from, double to) { impl_->rescale(from, to); }
void GradientHook::set_frozen(ParamId param, bool frozen) { impl_->set_frozen(param, frozen); }
void GradientHook::save(const std::string& folder) const { impl_->save(folder); }
void GradientHook::load(const std::string& folder) { impl_->load(folder); }
bool GradientHook::skipped() const { return impl_->skipped(); }
void GradientHook::progress() { impl_->progress(); }
StepReport GradientHook::report() const { return impl_->report(); }
std::size_t GradientHook::workspace_bytes() const noexcept { return impl_->engine().workspace_bytes(); }
std::size_t GradientHook::state_bytes() const noexcept { return impl_->engine().state_bytes(); }
std::size_t GradientHook::bucket_count() const noexcept { return impl_->engine().bucket_count(); }

}  // namespace gradwire
