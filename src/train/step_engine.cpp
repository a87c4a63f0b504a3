#include "train/step_engine.hpp"

#include <algorithm>
#include <cmath>

#include "base/env.hpp"
#include "base/fail.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire {
namespace {

constexpr std::size_t kArenaAlign = 128;
constexpr std::size_t kMinSegmentBytes = 4096;

std::size_t align(std::size_t bytes) { return (bytes + kArenaAlign - 1) / kArenaAlign * kArenaAlign; }

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
    : comm_(comm), scale_(options.average ? 1.0F / static_cast<float>(comm.size()) : 1.0F) {
  std::vector<ParamScheme> schemes = plan_schemes(params, options);
  const std::vector<BucketPlan> plans = plan_buckets(schemes, options.bucket_bytes);
  for (std::size_t i = 0; i < params.size(); ++i) {
    Param param{.info = params[i], .scheme = std::move(schemes[i]), .rule = nullptr};
    param.rule = make_rule(param.scheme.rule, {param.scheme.count, comm.size(), param.scheme.dense()});
    param.staged = !param.scheme.dense() && param.info.dtype != DType::f32;
    if (param.staged) in_flight_limit_ = 1;
    params_.push_back(std::move(param));
  }
  require(plans.size() <= std::size_t{kMaxSlot} + 1,
          "the hook has {} buckets, at most {} are possible: raise bucket_bytes", plans.size(), kMaxSlot + 1);
  for (const BucketPlan& plan : plans) {
    std::size_t bytes = 0;
    for (const std::size_t i : plan.params) bytes += params_[i].scheme.count * sizeof(float);
    largest_bucket_bytes_ = std::max(largest_bucket_bytes_, bytes);
  }
  buckets_.reserve(plans.size());
  for (const BucketPlan& plan : plans) add_bucket(plan, options);
  std::array<std::size_t, kMaxInFlight> sizes{};
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    sizes[i % in_flight_limit_] = std::max(sizes[i % in_flight_limit_], buckets_[i].arena_bytes);
  }
  for (std::size_t i = 0; i < kMaxInFlight; ++i) arenas_[i] = Buffer(sizes[i]);
}

StepEngine::~StepEngine() {
  // Buckets still in flight: their transport may go on writing to these.
  for (std::size_t i = oldest_; i < next_; ++i) arenas_[i % in_flight_limit_].abandon();
}

void StepEngine::add_bucket(const BucketPlan& plan, const HookOptions& options) {
  Bucket bucket;
  bucket.params = plan.params;
  bucket.dense = plan.family == Family::dense;
  std::vector<BucketItem> items;
  for (const std::size_t i : plan.params) {
    Param& param = params_[i];
    param.bucket = buckets_.size();
    if (param.staged) {
      param.staging_first = bucket.workspace_first;
      bucket.workspace_first += align(param.scheme.count * sizeof(float));
    }
    items.push_back({param.info.id, param.scheme.count, param.staged ? DType::f32 : param.info.dtype,
                     make_compressor(param.scheme.compressor), param.info.name, param.info.shape});
  }
  AllreduceOptions reduce;
  reduce.algorithm = algorithm_for(plan.family, options.algorithm);
  reduce.seed = options.seed;
  reduce.timeout = options.timeout;
  bucket.operation = make_operation(std::move(items), reduce);
  bucket.arena_bytes = bucket.workspace_first + align(bucket.operation->workspace_bytes());
  bucket.buffers.resize(plan.params.size());
  buckets_.push_back(std::move(bucket));
}

/// Several segments of several messages are in flight: shorter ones keep the workspace within a bucket. Every rank
/// finds the same length.
PersistentAllreduce StepEngine::make_operation(std::vector<BucketItem> items, AllreduceOptions options) const {
  const Slot slot{static_cast<std::uint32_t>(buckets_.size())};
  options.segment_bytes = environment().segment_bytes;
  for (;;) {
    PersistentAllreduce operation(comm_, items, slot, options);
    const bool shortest = options.segment_bytes / 2 < kMinSegmentBytes;
    if (operation.workspace_bytes() <= largest_bucket_bytes_ || shortest) return operation;
    options.segment_bytes /= 2;
  }
}

std::size_t StepEngine::workspace_bytes() const noexcept {
  std::size_t total = 0;
  for (const Buffer& buffer : arenas_) total += buffer.size();
  return total;
}

std::size_t StepEngine::state_bytes() const noexcept {
  std::size_t total = 0;
  for (const Param& param : params_) total += param.rule->bytes();
  return total;
}

double StepEngine::residual_norm(std::size_t param) const {
  for (const NamedState& state : params_[param].rule->state()) {
    if (state.kind != StateKind::residual) continue;
    std::vector<float> values(state.values->count());
    state.values->read(values.data());
    return std::sqrt(ops::sum_squares(values.data(), values.size()));
  }
  return 0;
}

Bytes StepEngine::arena(const Bucket& bucket) const noexcept {
  return arenas_[static_cast<std::size_t>(&bucket - buckets_.data()) % in_flight_limit_].bytes();
}

void StepEngine::prepare_input(Param& param, const Bucket& bucket, ItemBuffers& buffers) {
  if (bucket.dense) {
    scale_in_place(param.gradient, scale_);
    buffers = {param.gradient, {}};
    return;
  }
  buffers.tensor = param.gradient;
  if (param.staged) {
    const std::size_t count = param.scheme.count;
    buffers.tensor = {arena(bucket).data + param.staging_first, count, DType::f32, Space::host};
  }
  param.rule->compensate(param.gradient, scale_, buffers.tensor, StreamRef::host());
  buffers.residual = param.rule->residual({});
}

void StepEngine::launch(const std::optional<Verdict>& refusal) {
  if (next_ == 0) totals_ = {};
  Bucket& bucket = buckets_[next_];
  const auto begin = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < bucket.params.size(); ++i) {
    Param& param = params_[bucket.params[i]];
    if (refusal) {
      bucket.buffers[i] = {{nullptr, param.scheme.count, param.staged ? DType::f32 : param.info.dtype}, {}};
    } else {
      prepare_input(param, bucket, bucket.buffers[i]);
    }
  }
  totals_.encode_us += std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
  const Bytes memory = arena(bucket);
  const Bytes workspace = memory.slice(bucket.workspace_first, memory.size - bucket.workspace_first);
  Work work = bucket.operation->start(bucket.buffers, workspace, step_, StreamRef::host(), refusal);
  const std::lock_guard lock(mutex_);
  bucket.done = false;
  bucket.work = std::move(work);
  ++next_;
}

bool StepEngine::advance() {
  bool completed = false;
  for (std::size_t i = oldest_; i < next_; ++i) {
    Bucket& bucket = buckets_[i];
    if (bucket.done) continue;
    try {
      if (!bucket.work->done()) continue;
    } catch (const Error&) {
      if (!bucket.operation->in_step()) throw;
      // Of several failures every rank keeps the one of the first bucket, so all report the same.
      if (!agreed_failure_ || i < agreed_failure_bucket_) {
        agreed_failure_ = std::current_exception();
        agreed_failure_bucket_ = i;
      }
    }
    finish_bucket(bucket);
    completed = true;
  }
  const std::lock_guard lock(mutex_);
  while (oldest_ < next_ && buckets_[oldest_].done) ++oldest_;
  return completed;
}

std::string StepEngine::describe() const {
  const std::lock_guard lock(mutex_);
  std::string text;
  for (std::size_t i = oldest_; i < next_; ++i) {
    if (buckets_[i].work) text += (text.empty() ? "" : "; ") + buckets_[i].work->describe();
  }
  return text;
}

void StepEngine::finish_bucket(Bucket& bucket) {
  const OperationStats& stats = bucket.operation->stats();
  totals_.wire_bytes += stats.wire_bytes;
  totals_.encode_us += stats.encode_us;
  totals_.decode_us += stats.decode_us;
  totals_.wire_us += std::max(stats.total_us - stats.encode_us - stats.decode_us, 0.0);
  for (std::size_t i = 0; i < bucket.params.size(); ++i) {
    Param& param = params_[bucket.params[i]];
    const auto n = static_cast<std::uint64_t>(comm_.size());
    totals_.dense_bytes += 2 * (n - 1) * param.scheme.count * size_of(param.info.dtype) / n;
    if (bucket.dense || agreed_failure_) continue;
    param.rule->absorb(bucket.buffers[i].tensor, {}, StreamRef::host());
    if (param.staged) ops::convert(bucket.buffers[i].tensor, param.gradient);
  }
  const std::lock_guard lock(mutex_);
  bucket.work.reset();
  bucket.done = true;
}

void StepEngine::end_step() {
  {
    const std::lock_guard lock(mutex_);
    next_ = 0;
    oldest_ = 0;
  }
  ++step_;
  for (Param& param : params_) param.gradient = {};
  if (agreed_failure_) std::rethrow_exception(std::exchange(agreed_failure_, nullptr));
  for (Param& param : params_) param.rule->commit();
}

}  // namespace gradwire
