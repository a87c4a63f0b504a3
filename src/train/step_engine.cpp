#include "train/step_engine.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <set>

#include "base/clock.hpp"
#include "base/fail.hpp"
#include "collectives/operation.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire {
StepEngine::StepEngine(const Communicator& comm, std::span<const ParamInfo> params, const HookOptions& options)
    : comm_(comm), options_(options), scale_(options.average ? 1.0F / static_cast<float>(comm.size()) : 1.0F) {
  if (options.space == Space::device) {
    stream_ = std::make_unique<device::Stream>();
    updated_ = std::make_unique<device::Event>();
  }
  std::vector<ParamPlan> plans = plan_params(params, options);
  for (std::size_t i = 0; i < params.size(); ++i) add_param(params[i], std::move(plans[i]));
  find_reasons();
  find_layers();
  run(make_sets(agenda_->specs()));
}

StepEngine::~StepEngine() {
  // Buckets still in flight: their transport may go on writing to these.
  for (std::size_t i = oldest_; i < next_; ++i) arenas_[i % set().in_flight_limit()].abandon();
}

void StepEngine::add_param(const ParamInfo& info, ParamPlan plan) {
  Param& param = params_.emplace_back();
  param.rule = make_rule(plan.rule, {plan.count, comm_.size(), plan.always_dense, options_.space});
  if (stream_) param.ready = std::make_unique<device::Event>();
  const bool may_be_sent_again = options_.non_finite == NonFinite::dense;
  param.plain = plan.always_dense && plan.rule == "none" && !may_be_sent_again;
  for (const NamedState& state : param.rule->state()) {
    if (state.kind != StateKind::residual) continue;
    assert(param.residual == nullptr);
    param.residual = state.values;
    if (!state.values->is_f32() && state_scratch_.size() < plan.count * sizeof(float))
      state_scratch_ = Buffer(plan.count * sizeof(float), options_.space);
  }
  param.travels.info = info;
  param.travels.staged = !param.plain && (info.dtype != DType::f32 || may_be_sent_again);
  param.travels.scratch = param.rule->needs_scratch();
  param.travels.plan = std::move(plan);
}

/// Parameters that share one share its steps.
void StepEngine::find_reasons() {
  const auto add = [this](const DenseReason& reason) {
    const auto same = [&](const DenseReason& other) {
      return other.every == reason.every && other.rule == reason.rule;
    };
    const auto found = std::find_if(reasons_.begin(), reasons_.end(), same);
    const auto place = static_cast<unsigned>(found - reasons_.begin());
    if (found == reasons_.end()) reasons_.push_back(reason);
    return 1U << place;
  };
  for (Param& param : params_) {
    const ParamPlan& plan = param.travels.plan;
    if (plan.schedule.dense_every > 0) param.travels.dense_in |= add({plan.schedule.dense_every, {}});
    if (param.rule->dense_steps_left() > 0) param.travels.dense_in |= add({0, plan.rule});
    require(reasons_.size() <= kMaxReasons,
            "parameter '{}': the hook has more than {} different every() and rules that begin with dense steps",
            param.travels.info.name, kMaxReasons);
  }
}

void StepEngine::find_layers() {
  std::vector<ParamInfo> infos;
  std::vector<ParamPlan> plans;
  std::uint64_t settled = 0;
  for (const Param& param : params_) {
    infos.push_back(param.travels.info);
    plans.push_back(param.travels.plan);
    settled = std::max({settled, plans.back().schedule.dense_steps, plans.back().schedule.stages.back().first});
  }
  std::vector<PlannedLayer> layers = planned_layers(comm_, infos, plans, options_);
  for (std::size_t l = 0; l < layers.size(); ++l) params_[layers[l].param].layer = l;
  agenda_.emplace(comm_, std::move(layers), options_, settled);
  if (options_.planning.policy.empty()) return;
  // Each candidate has to be one that the algorithms can carry, or a plan could not be adopted in the middle of
  // training.
  std::set<std::string> all;
  for (const PlannedLayer& layer : agenda_->layers()) all.insert(layer.specs.begin(), layer.specs.end());
  for (const std::string& spec : all) {
    PlanAgenda::Specs specs = agenda_->specs();
    for (std::size_t l = 0; l < specs.size(); ++l) {
      const std::vector<std::string>& known = agenda_->layers()[l].specs;
      if (std::find(known.begin(), known.end(), spec) != known.end()) specs[l] = spec;
    }
    (void)make_sets(specs);
  }
}

std::unique_ptr<StepSets> StepEngine::make_sets(const PlanAgenda::Specs& specs) const {
  std::vector<StepParam> params;
  for (const Param& param : params_) {
    StepParam& made = params.emplace_back(param.travels);
    if (param.layer == kNoLayer) continue;
    std::string& own = made.plan.schedule.stages.back().compressor;
    made.sent_dense = specs[param.layer] == Schedule::kDense && own != Schedule::kDense;
    own = specs[param.layer];
  }
  return std::make_unique<StepSets>(comm_, params, reasons_.size(), options_);
}

/// From the next step on; what operations keep goes on.
void StepEngine::run(std::unique_ptr<StepSets> sets) {
  for (std::size_t i = 0; i < arenas_.size(); ++i) {
    if (arenas_[i].size() < sets->arena_bytes(i)) arenas_[i] = Buffer(sets->arena_bytes(i), options_.space);
  }
  if (sets_) sets->adopt_memories(*sets_, set_);
  const std::lock_guard lock(mutex_);
  if (step_ > 0 && !replaced_) replaced_ = std::move(sets_);
  sets_ = std::move(sets);
  choose_set();
  if (!replaced_) last_set_ = set_;
}

/// Of the step `step_`.
void StepEngine::choose_set() {
  unsigned mask = 0;
  for (const Param& param : params_) {
    if (param.travels.frozen) continue;
    for (std::size_t r = 0; r < reasons_.size(); ++r) {
      if ((param.travels.dense_in >> r & 1U) == 0) continue;
      const bool holds =
          reasons_[r].every > 0 ? param.travels.plan.schedule.is_nth_step(step_) : param.rule->dense_steps_left() > 0;
      if (holds) mask |= 1U << r;
    }
  }
  set_ = sets_->of(step_, mask);
}

std::size_t StepEngine::workspace_bytes() const noexcept {
  std::size_t total = 0;
  for (const Buffer& buffer : arenas_) total += buffer.size();
  return total;
}

Bytes StepEngine::arena(const Bucket& bucket) const noexcept {
  return arenas_[static_cast<std::size_t>(&bucket - set().buckets().data()) % set().in_flight_limit()].bytes();
}

Bytes StepEngine::workspace(const Bucket& bucket) const noexcept {
  const Bytes memory = arena(bucket);
  return memory.slice(bucket.workspace_first, memory.size - bucket.workspace_first);
}

Tensor StepEngine::scratch(const Bucket& bucket, std::size_t place) const noexcept {
  return {arena(bucket).data + bucket.scratch_first[place], params_[bucket.params[place]].travels.plan.count,
          DType::f32, options_.space};
}

void StepEngine::prepare_input(const Bucket& bucket, std::size_t place, ItemBuffers& buffers) {
  const Param& param = params_[bucket.params[place]];
  if (param.ready) param.ready->before(stream());
  if (param.plain) {
    ops::scale(param.gradient, scale_, stream());
    buffers = {param.gradient, {}};
    return;
  }
  buffers.tensor = param.gradient;
  if (param.travels.staged) {
    buffers.tensor = {arena(bucket).data + bucket.staging_first[place], param.travels.plan.count, DType::f32,
                      options_.space};
  }
  if (param.layer != kNoLayer) agenda_->see_gradient(param.layer, param.gradient, scale_, stream());
  param.rule->compensate(param.gradient, scale_, buffers.tensor, stream());
  if (param.layer != kNoLayer) agenda_->see_sent(param.layer, buffers.tensor, param.ready_us, stream());
  buffers.residual = param.rule->residual(scratch(bucket, place));
}

void StepEngine::mark_ready(std::size_t param, StreamRef stream) {
  if (params_[param].ready) params_[param].ready->record(stream);
}

bool StepEngine::in_flight() const {
  return oldest_ < next_ || agenda_->in_flight() || (updated_ && !updated_->done());
}

bool StepEngine::step_done() const { return oldest_ == bucket_count() && !in_flight(); }

void StepEngine::launch(const std::optional<Verdict>& refusal) {
  if (next_ == 0) {
    totals_ = {};
    busy_us_ = 0;
    step_began_ = Clock::now();
    replaced_.reset();
    agenda_->begin_step(step_);
  }
  if (oldest_ == next_) busy_since_ = Clock::now();
  Bucket& bucket = set().buckets()[next_];
  bucket.launch_us = us_since(step_began_);
  {
    const Stopwatch watch(totals_.encode_us);
    for (std::size_t place = 0; place < bucket.params.size(); ++place) {
      const Param& param = params_[bucket.params[place]];
      if (refusal) {
        const DType dtype = param.travels.staged ? DType::f32 : param.travels.info.dtype;
        bucket.buffers[place] = {{nullptr, param.travels.plan.count, dtype}, {}};
      } else {
        prepare_input(bucket, place, bucket.buffers[place]);
      }
    }
  }
  Work work = bucket.operation->start(bucket.buffers, workspace(bucket), step_, stream(), refusal);
  {
    const std::lock_guard lock(mutex_);
    bucket.done = false;
    bucket.falling_back = false;
    bucket.work = std::move(work);
    ++next_;
  }
  if (next_ == bucket_count()) agenda_->start(StreamRef::host());
}

bool StepEngine::advance() {
  bool completed = false;
  for (std::size_t i = oldest_; i < next_; ++i) {
    Bucket& bucket = set().buckets()[i];
    if (bucket.done) continue;
    const PersistentAllreduce& operation = bucket.falling_back ? *bucket.fallback : *bucket.operation;
    try {
      if (!bucket.work->done()) continue;
    } catch (const Error& error) {
      if (!operation.in_step()) throw;
      if (error.code() == Errc::non_finite && bucket.fallback && !bucket.falling_back) {
        fall_back(bucket);
        continue;
      }
      // Of several failures every rank keeps the one of the first bucket, so all report the same. NaN and Inf come
      // last: where such a step is dropped, a missing gradient must not go with it.
      const std::pair order(error.code() == Errc::non_finite, i);
      if (!agreed_failure_ || order < agreed_failure_order_) {
        agreed_failure_ = std::current_exception();
        agreed_failure_order_ = order;
      }
    }
    finish_bucket(bucket);
    completed = true;
  }
  if (completed) {
    const std::lock_guard lock(mutex_);
    while (oldest_ < next_ && set().buckets()[oldest_].done) ++oldest_;
    if (oldest_ == next_) busy_us_ += us_since(busy_since_);
  }
  return agenda_->advance() || completed;
}

/// The gradients themselves are still whole: what travelled was staged.
void StepEngine::fall_back(Bucket& bucket) {
  totals_.wire_bytes += bucket.operation->stats().wire_bytes;
  for (std::size_t place = 0; place < bucket.params.size(); ++place) {
    Param& param = params_[bucket.params[place]];
    param.keeps_state = true;
    ops::scale(param.gradient, scale_, stream());
    bucket.buffers[place] = {param.gradient, {}};
  }
  Work work = bucket.fallback->start(bucket.buffers, workspace(bucket), step_, stream());
  const std::lock_guard lock(mutex_);
  bucket.falling_back = true;
  bucket.work = std::move(work);
}

std::string StepEngine::describe() const {
  const std::lock_guard lock(mutex_);
  std::string text;
  for (std::size_t i = oldest_; i < next_; ++i) {
    const Bucket& bucket = set().buckets()[i];
    if (bucket.work) text += (text.empty() ? "" : "; ") + bucket.work->describe();
  }
  const std::string beside = agenda_->describe();
  return text + (text.empty() || beside.empty() ? "" : "; ") + beside;
}

void StepEngine::finish_bucket(Bucket& bucket) {
  const OperationStats& stats = (bucket.falling_back ? bucket.fallback : bucket.operation)->stats();
  totals_.wire_bytes += stats.wire_bytes;
  totals_.encode_us += stats.encode_us;
  totals_.decode_us += stats.decode_us;
  totals_.wire_us += std::max(stats.total_us - stats.encode_us - stats.decode_us, 0.0);
  if (bucket.falling_back) ++dense_fallbacks_;
  for (std::size_t place = 0; place < bucket.params.size(); ++place) {
    Param& param = params_[bucket.params[place]];
    const auto n = static_cast<std::uint64_t>(comm_.size());
    totals_.dense_bytes += 2 * (n - 1) * param.travels.plan.count * size_of(param.travels.info.dtype) / n;
    if (param.plain || agreed_failure_ || bucket.falling_back) continue;
    const ItemBuffers& buffers = bucket.buffers[place];
    if (param.layer != kNoLayer) agenda_->see_delivered(param.layer, buffers.tensor, buffers.residual, stream());
    param.rule->absorb(buffers.tensor, scratch(bucket, place), stream());
    if (param.travels.staged) ops::convert(buffers.tensor, param.gradient, stream());
  }
  if (updated_) updated_->record(stream());
  bucket.done_us = us_since(step_began_);
  const std::lock_guard lock(mutex_);
  bucket.work.reset();
  bucket.done = true;
}

void StepEngine::commit() {
  bool scaled = false;
  for (Param& param : params_) {
    if (param.travels.frozen || param.keeps_state) continue;
    param.rule->commit();
    const Schedule& schedule = param.travels.plan.schedule;
    if (!schedule.drops_residual()) continue;
    const bool reset = schedule.reset_every > 0 && step_ % schedule.reset_every == 0;
    if (param.residual == nullptr) continue;
    param.residual->scale(reset ? 0 : schedule.decay, state_scratch(), stream());
    scaled = true;
  }
  if (scaled) settle();
}

/// NonFinite::skip: an update of zero.
void StepEngine::drop_step() {
  for (const Param& param : params_) {
    if (param.gradient.data != nullptr) ops::zero(param.gradient, stream());
  }
  settle();
  totals_.skipped = true;
  ++skipped_steps_;
}

void StepEngine::end_step() {
  {
    const std::lock_guard lock(mutex_);
    next_ = 0;
    oldest_ = 0;
  }
  ++step_;
  const auto bucket_bytes = static_cast<double>(totals_.wire_bytes);
  totals_.wire_bytes += agenda_->take_wire_bytes();
  if (bucket_count() == 0) {  // all parameters are frozen: nothing was launched
    totals_ = {};
    busy_us_ = 0;
  }
  std::exception_ptr failure = std::exchange(agreed_failure_, nullptr);
  if (!failure) {
    commit();
  } else if (options_.non_finite != NonFinite::error) {
    try {
      std::rethrow_exception(failure);
    } catch (const Error& error) {
      if (error.code() == Errc::non_finite) {
        drop_step();
        failure = nullptr;
      }
    }
  }
  for (Param& param : params_) {
    param.gradient = {};
    param.keeps_state = false;
  }
  totals_.skipped_steps = skipped_steps_;
  totals_.dense_fallbacks = dense_fallbacks_;
  {
    const std::lock_guard lock(mutex_);
    last_set_ = set_;
    choose_set();
  }
  replan(failure != nullptr || totals_.skipped, {busy_us_, bucket_bytes});
  if (failure) std::rethrow_exception(failure);
}

/// What the agenda wants to run from the next step on.
void StepEngine::replan(bool dropped, const WindowSums::Steps& took) {
  if (agenda_->watches()) {
    for (const Param& param : params_)
      if (param.layer != kNoLayer) see_owed(param);
    settle();
  }
  const std::optional<PlanAgenda::Specs> specs = agenda_->end_step(dropped, took);
  if (!specs) return;
  try {
    run(make_sets(*specs));
  } catch (const Error& error) {  // the same on all ranks
    return agenda_->refuse(error.what());
  }
  agenda_->adopt();
}

}  // namespace gradwire
