// What the training thread calls of a hook.
#include <cmath>

#include "compress/vector_ops.hpp"
#include "train/checkpoint.hpp"
#include "train/hook_impl.hpp"
#include "train/registration.hpp"

namespace gradwire {

void GradientHook::Impl::shut_down() noexcept {
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
  if (in_mid_step) engine_->let_go(std::chrono::seconds(5));
  claim_.reset();  // a Work that is kept longer must not keep the communicator from others
}

void GradientHook::Impl::ready(ParamId id, const Tensor& gradient, StreamRef stream, bool zero) {
  const std::size_t i = find(id, zero ? "unused" : "ready");
  check_gradient(params_[i], engine_->plan(i).count, gradient, stream, options_.space);
  {
    const device::Scope scope(device_);
    const std::lock_guard lock(mutex_);
    if (failure_) std::rethrow_exception(failure_);
    if (no_syncs_ > 0) return;
    require(!finishing_, "ready: parameter '{}' came after finish_step() and before its Work was done",
            params_[i].name);
    require(gradients_[i].data == nullptr, "ready: parameter '{}' was ready already in this step", params_[i].name);
    require(!engine_->frozen(i), "ready: parameter '{}' is frozen", params_[i].name);
    if (zero) ops::zero(gradient, stream);
    engine_->mark_ready(i, stream);
    if (ready_count_ == 0) first_ready_ = Clock::now();
    gradients_[i] = gradient;
    ready_us_[i] = us_since(first_ready_);
    ++ready_count_;
    --missing_[engine_->bucket_of(i)];
  }
  options_.library_thread ? changed_.notify_all() : progress();
}

void GradientHook::Impl::accumulate(bool on) {
  const std::lock_guard lock(mutex_);
  require(!on || (ready_count_ == 0 && !finishing_), "no_sync: in mid-step");
  on ? ++no_syncs_ : --no_syncs_;
}

void GradientHook::Impl::rescale(double from, double to) {
  require(std::isfinite(from) && std::isfinite(to) && from > 0 && to > 0,
          "rescale: loss scales are finite and above 0, given {} and {}", from, to);
  require(to / from >= 0x1p-60 && to / from <= 0x1p60,
          "rescale: from {} to {} is by {}; squares of gradients are kept as f32, so by 2^-60 to 2^60 at most", from,
          to, to / from);
  between_steps("rescale", [&] { engine_->rescale(static_cast<float>(to / from)); });
}

void GradientHook::Impl::set_frozen(ParamId id, bool frozen) {
  const std::size_t i = find(id, "set_frozen");
  between_steps("set_frozen", [&] {
    if (engine_->frozen(i) == frozen) return;
    engine_->set_frozen(i, frozen);
    begin_step();
  });
}

void GradientHook::Impl::set_plan(const Plan& plan) {
  between_steps("set_plan", [&] {
    std::unique_ptr<StepSets> prepared;
    prepare_together(comm_, registration_deadline(), "the plan", [&]() -> std::vector<Agreement> {
      prepared = engine_->prepare_plan(plan);
      // All of it is part of saved states, but for the time that it took.
      std::vector<Agreement> entries;
      for (const PlanLayer& layer : plan.layers) {
        entries.push_back({fmt::format("layer '{}'", layer.name),
                           fmt::format("{}, {} bytes, error {}", layer.spec, layer.bytes, layer.error)});
      }
      entries.push_back({"its policy", plan.policy});
      entries.push_back({"its limit", fmt::format("{} {}, bound {}", name(plan.limit), plan.budget,
                                                  plan.bound ? fmt::format("{}", *plan.bound) : "none")});
      return entries;
    });
    engine_->set_plan(plan, std::move(prepared));
    begin_step();
  });
}

void GradientHook::Impl::save(const std::string& folder) {
  SavedState state;
  between_steps("save", [&] { state = EngineState(*engine_, comm_, options_.average).save(); });
  save_in(folder, state);
}

void GradientHook::Impl::load(const std::string& folder) {
  between_steps("load", [&] {
    EngineState live(*engine_, comm_, options_.average);
    load_together(comm_, registration_deadline(), live, folder);
    report_ = engine_->totals();
    report_.step = engine_->step();
    begin_step();
  });
}

void GradientHook::Impl::finish_step() {
  {
    const std::lock_guard lock(mutex_);
    if (failure_) std::rethrow_exception(failure_);
    require(no_syncs_ == 0, "finish_step: a no_sync() guard is alive, this step's gradients are only accumulated");
    require(!finishing_, "finish_step: the last step's Work is not done yet");
    finishing_ = true;
    done_ = false;
    finish_called_ = Clock::now();
    if (ready_count_ < awaited_) log_missing();
  }
  options_.library_thread ? changed_.notify_all() : progress();
}

void GradientHook::Impl::progress() {
  require(!options_.library_thread, "progress: the hook's own thread drives it (HookOptions::library_thread)");
  drive();
}

bool GradientHook::Impl::poll() {
  if (!options_.library_thread) drive();
  const std::lock_guard lock(mutex_);
  return outcome();
}

void GradientHook::Impl::wait(Deadline deadline) {
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

std::string GradientHook::Impl::describe() const {
  const std::string in_flight = engine_->describe();
  return fmt::format("the hook's step on rank {}{}{}", comm_.rank(), in_flight.empty() ? "" : ": ", in_flight);
}

StepReport GradientHook::Impl::report() const {
  const device::Scope scope(device_);
  StepReport report;
  {
    const std::lock_guard lock(mutex_);
    require(ready_count_ == 0 && (!finishing_ || done_), "report: a step is under way, and its Work is not done yet");
    report = report_;
  }
  report.buckets = engine_->bucket_reports();
  for (std::size_t i = 0; i < params_.size(); ++i) {
    const ParamScheme& scheme = engine_->last_scheme(i);
    report.params.push_back({params_[i].name, scheme.dense() ? "dense" : scheme.compressor, scheme.rule,
                             engine_->plan(i).count, engine_->residual_norm(i)});
  }
  return report;
}

std::size_t GradientHook::Impl::find(ParamId id, const char* call) const {
  const auto found = index_.find(id);
  require(found != index_.end(), "{}: no parameter has id {}", call, static_cast<std::uint32_t>(id));
  return found->second;
}

}  // namespace gradwire
