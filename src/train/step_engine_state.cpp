// What a step engine keeps from step to step, seen from outside.
#include <algorithm>
#include <cmath>

#include "base/backoff.hpp"
#include "compress/vector_ops.hpp"
#include "train/step_engine.hpp"

namespace gradwire {

std::size_t StepEngine::state_bytes() const noexcept {
  std::size_t total = 0;
  for (const Param& param : params_) total += param.rule->bytes();
  return total;
}

void StepEngine::settle() const {
  if (stream_) device::wait(stream_->ref());
}

void StepEngine::let_go(std::chrono::milliseconds patience) const noexcept {
  if (!updated_) return;
  try {
    updated_->record(stream());
    const Clock::time_point end = Clock::now() + patience;
    for (Backoff backoff; !updated_->done() && Clock::now() < end; backoff.pause()) {
    }
  } catch (const std::exception&) {  // a device that fails does nothing more
  }
}

double StepEngine::residual_norm(std::size_t param) const {
  const StateVector* const residual = params_[param].residual;
  if (residual == nullptr) return 0;
  std::vector<float> values(residual->count());
  residual->read(values.data());
  return std::sqrt(ops::sum_squares(values.data(), values.size()));
}

void StepEngine::rescale(float factor) {
  for (Param& param : params_) {
    for (const NamedState& state : param.rule->state()) {
      if (state.degree == 0) continue;
      state.values->scale(std::pow(factor, static_cast<float>(state.degree)), state_scratch(), stream());
    }
  }
  settle();
}

std::size_t StepEngine::index_of(std::string_view name) const noexcept {
  const auto found =
      std::find_if(params_.begin(), params_.end(), [&](const Param& p) { return p.travels.info.name == name; });
  return static_cast<std::size_t>(found - params_.begin());
}

/// What the rule owes, if it keeps a residual.
void StepEngine::see_owed(const Param& param) {
  const StateVector* const residual = param.residual;
  if (residual == nullptr) return;
  const bool is_f32 = residual->is_f32();
  const Tensor values = is_f32 ? residual->current_tensor() : state_scratch().slice(0, residual->count());
  if (!is_f32) residual->read(values, Write::assign, stream());
  agenda_->see_owed(param.layer, values, stream());
}

void StepEngine::set_frozen(std::size_t param, bool frozen) {
  params_[param].travels.frozen = frozen;
  if (params_[param].layer != kNoLayer) agenda_->set_frozen(params_[param].layer, frozen);
  run(make_sets(agenda_->specs()));
}

std::unique_ptr<StepSets> StepEngine::prepare_plan(const Plan& plan) const {
  return make_sets(agenda_->specs_of(plan));
}

void StepEngine::set_plan(const Plan& plan, std::unique_ptr<StepSets> prepared) {
  run(std::move(prepared));
  agenda_->set_plan(plan, step_);
}

void StepEngine::check_saved_plan(const SavedPlan& saved) const {
  if (!saved.plan.empty()) (void)agenda_->specs_of(plan_from_json(saved.plan));
}

void StepEngine::set_saved_plan(const SavedPlan& saved) {
  std::optional<Plan> plan;
  if (!saved.plan.empty()) plan = plan_from_json(saved.plan);
  run(make_sets(plan ? agenda_->specs_of(*plan) : agenda_->own_specs()));
  agenda_->restore(plan, saved.forbidden);
}

std::vector<BucketReport> StepEngine::bucket_reports() const {
  std::vector<BucketReport> reports;
  for (const Bucket& bucket : last_set().buckets()) {
    const OperationStats& stats = (bucket.falling_back ? bucket.fallback : bucket.operation)->stats();
    reports.push_back({bucket.params, bucket.launch_us, bucket.done_us, stats.encode_us,
                       std::max(stats.total_us - stats.encode_us - stats.decode_us, 0.0), stats.decode_us,
                       stats.wire_bytes});
  }
  return reports;
}

void StepEngine::set_step(std::uint64_t step, std::uint64_t skipped_steps, std::uint64_t dense_fallbacks) {
  const std::lock_guard lock(mutex_);
  step_ = step;
  totals_ = {};
  skipped_steps_ = totals_.skipped_steps = skipped_steps;
  dense_fallbacks_ = totals_.dense_fallbacks = dense_fallbacks;
  choose_set();
  replaced_.reset();
  last_set_ = set_;
}

}  // namespace gradwire
