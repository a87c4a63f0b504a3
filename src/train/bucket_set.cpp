#include "train/bucket_set.hpp"

#include <algorithm>

#include "base/env.hpp"
#include "base/fail.hpp"

namespace gradwire {
namespace {

constexpr std::size_t kArenaAlign = 128;
constexpr std::size_t kMinSegmentBytes = 4096;

std::size_t align(std::size_t bytes) { return (bytes + kArenaAlign - 1) / kArenaAlign * kArenaAlign; }

}  // namespace

BucketSet::BucketSet(const Communicator& comm, std::span<const ParamInfo> infos, std::span<const BucketParam> params,
                     const HookOptions& options)
    : comm_(comm), bucket_of_(params.size(), kNoBucket) {
  for (const BucketParam& param : params) {
    schemes_.push_back(param.scheme);
    if (param.staged || param.scratch) in_flight_limit_ = 1;
  }
  if (options.non_finite == NonFinite::dense) in_flight_limit_ = 1;
  const std::vector<BucketPlan> plans = plan_buckets(schemes_, options.bucket_bytes);
  require(plans.size() < kMaxSlot, "the hook has {} buckets, at most {} are possible: raise bucket_bytes", plans.size(),
          kMaxSlot - 1);  // the last two slots are the planning's
  for (const BucketPlan& plan : plans) {
    std::size_t bytes = 0;
    for (const std::size_t i : plan.params) bytes += schemes_[i].count * sizeof(float);
    largest_bucket_bytes_ = std::max(largest_bucket_bytes_, bytes);
  }
  buckets_.reserve(plans.size());
  for (const BucketPlan& plan : plans) add_bucket(plan, infos, params, options);
}

void BucketSet::add_bucket(const BucketPlan& plan, std::span<const ParamInfo> infos,
                           std::span<const BucketParam> params, const HookOptions& options) {
  Bucket bucket;
  bucket.params = plan.params;
  std::vector<BucketItem> items;
  std::vector<BucketItem> raw;
  for (const std::size_t i : plan.params) {
    const ParamInfo& info = infos[i];
    const std::size_t bytes = align(schemes_[i].count * sizeof(float));
    bucket_of_[i] = buckets_.size();
    bucket.staging_first.push_back(bucket.workspace_first);
    if (params[i].staged) bucket.workspace_first += bytes;
    bucket.scratch_first.push_back(bucket.workspace_first);
    if (params[i].scratch) bucket.workspace_first += bytes;
    items.push_back({info.id, schemes_[i].count, params[i].staged ? DType::f32 : info.dtype,
                     make_compressor(schemes_[i].compressor), info.name, info.shape});
    raw.push_back({info.id, schemes_[i].count, info.dtype, make_compressor("none"), info.name, {}});
  }
  AllreduceOptions reduce;
  reduce.algorithm = algorithm_for(plan.family, options.algorithm);
  reduce.inner = options.inner;
  reduce.seed = options.seed;
  reduce.timeout = options.timeout;
  reduce.space = options.space;
  bucket.operation = make_operation(std::move(items), reduce);
  std::size_t workspace = bucket.operation->workspace_bytes();
  if (options.non_finite == NonFinite::dense) {
    AllreduceOptions as_they_are = reduce;
    as_they_are.algorithm = "dense";
    as_they_are.pass_non_finite = true;
    bucket.fallback = make_operation(std::move(raw), as_they_are);
    workspace = std::max(workspace, bucket.fallback->workspace_bytes());
  }
  bucket.arena_bytes = bucket.workspace_first + align(workspace);
  bucket.buffers.resize(plan.params.size());
  buckets_.push_back(std::move(bucket));
}

/// Several segments of several messages are in flight: shorter ones keep the workspace within a bucket. Every rank
/// finds the same length.
PersistentAllreduce BucketSet::make_operation(std::vector<BucketItem> items, AllreduceOptions options) const {
  const Slot slot{static_cast<std::uint32_t>(buckets_.size())};
  options.segment_bytes = environment().segment_bytes;
  for (;;) {
    PersistentAllreduce operation(comm_, items, slot, options);
    const bool shortest = options.segment_bytes / 2 < kMinSegmentBytes;
    if (operation.workspace_bytes() <= largest_bucket_bytes_ || shortest) return operation;
    options.segment_bytes /= 2;
  }
}

std::size_t BucketSet::place_of(std::size_t param) const noexcept {
  const std::vector<std::size_t>& params = buckets_[bucket_of_[param]].params;
  return static_cast<std::size_t>(std::find(params.begin(), params.end(), param) - params.begin());
}

std::string BucketSet::memory(std::size_t param) const {
  if (bucket_of_[param] == kNoBucket) return {};
  return buckets_[bucket_of_[param]].operation->memory(place_of(param));
}

void BucketSet::set_memory(std::size_t param, std::string_view memory) {
  if (bucket_of_[param] == kNoBucket) return;
  buckets_[bucket_of_[param]].operation->set_memory(place_of(param), memory);
}

void BucketSet::adopt_memory(std::size_t param, std::string_view memory, const std::string& from) {
  if (bucket_of_[param] == kNoBucket) return;
  buckets_[bucket_of_[param]].operation->adopt_memory(place_of(param), memory, make_compressor(from));
}

}  // namespace gradwire
