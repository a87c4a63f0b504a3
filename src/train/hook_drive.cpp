// How a hook's step moves on, by its own thread or the caller's.
#include "base/backoff.hpp"
#include "base/device.hpp"
#include "base/log.hpp"
#include "train/hook_impl.hpp"
#include "train/registration.hpp"

namespace gradwire {
namespace {

HookOptions with_environment(HookOptions options) {
  if (options.planning.trace.empty()) options.planning.trace = environment().trace;
  return options;
}

}  // namespace

GradientHook::Impl::Impl(Communicator comm, std::vector<ParamInfo> params, HookOptions options)
    : comm_(std::move(comm)),
      params_(std::move(params)),
      options_(with_environment(std::move(options))),
      claim_(comm_.claim("a GradientHook")),
      gradients_(params_.size()),
      ready_us_(params_.size()) {
  register_with_the_others();
  if (options_.space == Space::device) device_ = device::current();
  for (std::size_t i = 0; i < params_.size(); ++i) index_.emplace(params_[i].id, i);
  begin_step();
  if (options_.library_thread) thread_ = std::thread([this] { run(); });
}

void GradientHook::Impl::register_with_the_others() {
  prepare_together(comm_, registration_deadline(), "the registration", [this] {
    if (options_.library_thread) require_any_thread(comm_.transport().info());
    engine_.emplace(comm_, params_, options_);
    return describe_registration(params_, options_, *engine_);
  });
}

void GradientHook::Impl::log_missing() const {
  std::string names;
  for (std::size_t i = 0; i < params_.size(); ++i) {
    if (gradients_[i].data == nullptr && !engine_->frozen(i)) names += " '" + params_[i].name + "'";
  }
  log::line(log::Level::warn, comm_.rank(), "finish_step: gradients missing:{}", names);
}

void GradientHook::Impl::begin_step() {
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

bool GradientHook::Impl::outcome() {
  if (failure_) std::rethrow_exception(failure_);
  if (!done_) return false;
  if (agreed_failure_) std::rethrow_exception(agreed_failure_);
  return true;
}

std::optional<Verdict> GradientHook::Impl::hand_over() {
  const std::size_t bucket = engine_->next_bucket();
  std::optional<Verdict> refusal;
  for (std::size_t i = params_.size(); i-- > 0;) {
    if (engine_->bucket_of(i) != bucket) continue;
    engine_->set_gradient(i, gradients_[i], ready_us_[i]);
    if (gradients_[i].data == nullptr) refusal = Verdict{Errc::invalid_argument, comm_.rank(), params_[i].id};
  }
  return refusal;
}

bool GradientHook::Impl::drive() {
  bool moved = false;
  try {
    const device::Scope scope(device_);
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

void GradientHook::Impl::end_step() {
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

void GradientHook::Impl::fail_hook(std::exception_ptr failure) {
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

void GradientHook::Impl::run() {
  try {
    const device::Scope scope(device_);
    drive_until_stopped();
  } catch (...) {  // a device's error, seen while there was nothing to drive
    fail_hook(std::current_exception());
  }
}

void GradientHook::Impl::drive_until_stopped() {
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

}  // namespace gradwire
