#include "gradwire/hook.hpp"

#include "train/hook_impl.hpp"

namespace gradwire {

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

void GradientHook::unused(ParamId param, Tensor gradient, StreamRef stream) {
  impl_->ready(param, gradient, stream, true);
}
GradientHook::NoSync GradientHook::no_sync() {
  impl_->accumulate(true);
  return NoSync(impl_.get(), [impl = impl_](void*) { impl->accumulate(false); });
}
void GradientHook::rescale(double from, double to) { impl_->rescale(from, to); }
void GradientHook::set_frozen(ParamId param, bool frozen) { impl_->set_frozen(param, frozen); }
void GradientHook::save(const std::string& folder) const { impl_->save(folder); }
void GradientHook::load(const std::string& folder) { impl_->load(folder); }
void GradientHook::set_plan(const Plan& plan) { impl_->set_plan(plan); }
Plan GradientHook::plan() const {
  return impl_->planning("plan", [](const PlanAgenda& agenda) { return agenda.plan(); });
}
Table GradientHook::table() const {
  return impl_->planning("table", [](const PlanAgenda& agenda) { return agenda.table(); });
}
PlanningReport GradientHook::planning() const {
  return impl_->planning("planning", [](const PlanAgenda& agenda) { return agenda.report(); });
}
bool GradientHook::skipped() const { return impl_->skipped(); }
void GradientHook::progress() { impl_->progress(); }
StepReport GradientHook::report() const { return impl_->report(); }
std::size_t GradientHook::workspace_bytes() const noexcept { return impl_->engine().workspace_bytes(); }
std::size_t GradientHook::state_bytes() const noexcept { return impl_->engine().state_bytes(); }
std::size_t GradientHook::bucket_count() const noexcept { return impl_->engine().bucket_count(); }

}  // namespace gradwire
