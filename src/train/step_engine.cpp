#include "train/step_engine.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "base/fail.hpp"
#include "collectives/operation.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire {
namespace {

/// tensor *= scale, in its own dtype.
void scale_in_place(const Tensor& tensor, float scale) {
  if (tensor.dtype == DType::f32) {
    return ops::scale_add(tensor, scale, nullptr, static_cast<float*>(tensor.data));
  }
  constexpr std::size_t kBlock = 1024;
  std::array<float, kBlock> wide;
  for (std::size_t first = 0; first < tensor.count; first += kBlock) {
    const Tensor part = tensor.slice(first, std::min(kBlock, tensor.count - first));
    ops::scale_add(part, scale, nullptr, wide.data());
    ops::convert(ConstTensor(wide.data(), part.count), part);
  }
}

}  // namespace

StepEngine::StepEngine(const Communicator& comm, std::span<const ParamInfo> params, const HookOptions& options)
    : comm_(comm), options_(options), scale_(options.average ? 1.0F / static_cast<float>(comm.size()) : 1.0F) {
  std::vector<ParamPlan> plans = plan_params(params, options);
  for (std::size_t i = 0; i < params.size(); ++i) {
    Param param{.info = params[i], .plan = std::move(plans[i]), .rule = nullptr};
    const ParamPlan& plan = param.plan;
    param.rule = make_rule(plan.rule, {plan.count, comm.size(), plan.always_dense});
    const bool may_be_sent_again = options.non_finite == NonFinite::dense;
    param.plain = plan.always_dense && plan.rule == "none" && !may_be_sent_again;
    param.staged = !param.plain && (param.info.dtype != DType::f32 || may_be_sent_again);
    if (plan.schedule.drops_residual()) {
      for (const NamedState& state : param.rule->state()) {
        if (state.kind != StateKind::residual) continue;
        param.residuals.push_back(state.values);
        if (!state.values->is_f32()) decay_scratch_.resize(std::max(decay_scratch_.size(), plan.count));
      }
    }
    params_.push_back(std::move(param));
  }
  find_reasons();
  plan_sets();
}

StepEngine::~StepEngine() {
  // Buckets still in flight: their transport may go on writing to these.
  for (std::size_t i = oldest_; i < next_; ++i) arenas_[i % set().in_flight_limit()].abandon();
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
    if (param.plan.schedule.dense_every > 0) param.dense_in |= add({param.plan.schedule.dense_every, {}});
    if (param.rule->dense_steps_left() > 0) param.dense_in |= add({0, param.plan.rule});
    require(reasons_.size() <= kMaxReasons,
            "parameter '{}': the hook has more than {} different every() and rules that begin with dense steps",
            param.info.name, kMaxReasons);
  }
}

/// All sets that a step can need, and arenas for the largest of their buckets.
void StepEngine::plan_sets() {
  std::set<std::uint64_t> firsts{0};
  for (const Param& param : params_) {
    firsts.insert(param.plan.schedule.dense_steps);
    for (const Schedule::Stage& stage : param.plan.schedule.stages) firsts.insert(stage.first);
  }
  std::vector<std::string> keys;
  phases_.clear();
  sets_.clear();
  for (const std::uint64_t first : firsts) {
    Phase& phase = phases_.emplace_back(Phase{first, {}});
    for (unsigned mask = 0; mask < 1U << reasons_.size(); ++mask) phase.sets.push_back(add_set(first, mask, keys));
  }
  std::array<std::size_t, BucketSet::kMaxInFlight> sizes{};
  for (const std::unique_ptr<BucketSet>& made : sets_) {
    for (std::size_t i = 0; i < made->buckets().size(); ++i) {
      std::size_t& size = sizes[i % made->in_flight_limit()];
      size = std::max(size, made->buckets()[i].arena_bytes);
    }
  }
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (arenas_[i].size() < sizes[i]) arenas_[i] = Buffer(sizes[i]);
  }
  choose_set();
  last_set_ = set_;
}

std::size_t StepEngine::add_set(std::uint64_t step, unsigned mask, std::vector<std::string>& keys) {
  std::vector<ParamInfo> infos;
  std::vector<BucketParam> params;
  std::string key;
  for (const Param& param : params_) {
    const bool dense = param.plan.schedule.warms_up(step) || (mask & param.dense_in) != 0;
    BucketParam made{param.plan.scheme(param.info, step, dense), param.staged, param.rule->needs_scratch()};
    if (param.frozen) made.scheme.count = 0;
    key += made.scheme.dense() ? "dense\n" : made.scheme.compressor + '\n';
    infos.push_back(param.info);
    params.push_back(std::move(made));
  }
  const auto found = std::find(keys.begin(), keys.end(), key);
  if (found != keys.end()) return static_cast<std::size_t>(found - keys.begin());
  keys.push_back(std::move(key));
  sets_.push_back(std::make_unique<BucketSet>(comm_, infos, params, options_));
  return sets_.size() - 1;
}

/// Of the step `step_`.
void StepEngine::choose_set() {
  auto phase = phases_.begin();
  while (phase + 1 != phases_.end() && step_ >= (phase + 1)->first) ++phase;
  unsigned mask = 0;
  for (const Param& param : params_) {
    if (param.frozen) continue;
    for (std::size_t r = 0; r < reasons_.size(); ++r) {
      if ((param.dense_in >> r & 1U) == 0) continue;
      const bool holds =
          reasons_[r].every > 0 ? param.plan.schedule.is_nth_step(step_) : param.rule->dense_steps_left() > 0;
      if (holds) mask |= 1U << r;
    }
  }
  set_ = phase->sets[mask];
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
  return {arena(bucket).data + bucket.scratch_first[place], params_[bucket.params[place]].plan.count};
}

void StepEngine::prepare_input(const Bucket& bucket, std::size_t place, ItemBuffers& buffers) {
  const Param& param = params_[bucket.params[place]];
  if (param.plain) {
    scale_in_place(param.gradient, scale_);
    buffers = {param.gradient, {}};
    return;
  }
  buffers.tensor = param.gradient;
  if (param.staged) buffers.tensor = {arena(bucket).data + bucket.staging_first[place], param.plan.count};
  param.rule->compensate(param.gradient, scale_, buffers.tensor, StreamRef::host());
  buffers.residual = param.rule->residual(scratch(bucket, place));
}

void StepEngine::launch(const std::optional<Verdict>& refusal) {
  if (next_ == 0) totals_ = {};
  Bucket& bucket = set().buckets()[next_];
  {
    const Stopwatch watch(totals_.encode_us);
    for (std::size_t place = 0; place < bucket.params.size(); ++place) {
      const Param& param = params_[bucket.params[place]];
      if (refusal) {
        bucket.buffers[place] = {{nullptr, param.plan.count, param.staged ? DType::f32 : param.info.dtype}, {}};
      } else {
        prepare_input(bucket, place, bucket.buffers[place]);
      }
    }
  }
  Work work = bucket.operation->start(bucket.buffers, workspace(bucket), step_, StreamRef::host(), refusal);
  const std::lock_guard lock(mutex_);
  bucket.done = false;
  bucket.falling_back = false;
  bucket.work = std::move(work);
  ++next_;
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
  const std::lock_guard lock(mutex_);
  while (oldest_ < next_ && set().buckets()[oldest_].done) ++oldest_;
  return completed;
}

/// The gradients themselves are still whole: what travelled was staged.
void StepEngine::fall_back(Bucket& bucket) {
  totals_.wire_bytes += bucket.operation->stats().wire_bytes;
  for (std::size_t place = 0; place < bucket.params.size(); ++place) {
    Param& param = params_[bucket.params[place]];
    param.keeps_state = true;
    scale_in_place(param.gradient, scale_);
    bucket.buffers[place] = {param.gradient, {}};
  }
  Work work = bucket.fallback->start(bucket.buffers, workspace(bucket), step_, StreamRef::host());
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
  return text;
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
    totals_.dense_bytes += 2 * (n - 1) * param.plan.count * size_of(param.info.dtype) / n;
    if (param.plain || agreed_failure_ || bucket.falling_back) continue;
    param.rule->absorb(bucket.buffers[place].tensor, scratch(bucket, place), StreamRef::host());
    if (param.staged) ops::convert(bucket.buffers[place].tensor, param.gradient);
  }
  const std::lock_guard lock(mutex_);
  bucket.work.reset();
  bucket.done = true;
}

void StepEngine::commit() {
  for (Param& param : params_) {
    if (param.frozen || param.keeps_state) continue;
    param.rule->commit();
    const Schedule& schedule = param.plan.schedule;
    if (!schedule.drops_residual()) continue;
    const bool reset = schedule.reset_every > 0 && step_ % schedule.reset_every == 0;
    for (StateVector* const residual : param.residuals) {
      residual->scale(reset ? 0 : schedule.decay, decay_scratch_.data());
    }
  }
}

/// NonFinite::skip: an update of zero.
void StepEngine::drop_step() {
  for (const Param& param : params_) {
    if (param.gradient.data != nullptr) std::memset(param.gradient.data, 0, param.gradient.bytes());
  }
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
  if (bucket_count() == 0) totals_ = {};  // all parameters are frozen: nothing was launched
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
  if (failure) std::rethrow_exception(failure);
}

void StepEngine::set_frozen(std::size_t param, bool frozen) {
  const std::lock_guard lock(mutex_);
  params_[param].frozen = frozen;
  plan_sets();
}

}  // namespace gradwire
