#pragma once
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "train/buckets.hpp"

#include "gradwire/allreduce.hpp"

namespace gradwire {

/// What a bucket set has to know of a parameter. A scheme without elements: it takes no part.
struct BucketParam {
  ParamScheme scheme;
  bool staged = false;   ///< travels as f32 in memory of the bucket, apart from its gradient
  bool scratch = false;  ///< FeedbackRule::needs_scratch()
};

/// One bucket: its operation, and where its memory lies in the arena of the bucket.
struct Bucket {
  std::vector<std::size_t> params;         ///< by index of registration
  std::vector<std::size_t> staging_first;  ///< of each, byte in the arena
  std::vector<std::size_t> scratch_first;  ///< likewise
  std::size_t workspace_first = 0;
  std::size_t arena_bytes = 0;
  std::optional<PersistentAllreduce> operation;
  /// NonFinite::dense: sends the gradients as they are when the operation refuses them.
  std::optional<PersistentAllreduce> fallback;
  std::vector<ItemBuffers> buffers;
  std::optional<Work> work;  ///< while in flight
  bool falling_back = false;
  bool done = false;
  double launch_us = 0;  // in the last step that had the bucket, from its first launch
  double done_us = 0;
};

/// The buckets of the steps that share one assignment of compressors to parameters.
class BucketSet {
 public:
  static constexpr std::size_t kNoBucket = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t kMaxInFlight = 2;

  /// `params` are as registered in `infos`. Throws what PersistentAllreduce throws.
  BucketSet(const Communicator& comm, std::span<const ParamInfo> infos, std::span<const BucketParam> params,
            const HookOptions& options);

  [[nodiscard]] std::vector<Bucket>& buckets() noexcept { return buckets_; }
  [[nodiscard]] const std::vector<Bucket>& buckets() const noexcept { return buckets_; }
  /// kNoBucket for a parameter that takes no part.
  [[nodiscard]] std::size_t bucket_of(std::size_t param) const noexcept { return bucket_of_[param]; }
  [[nodiscard]] const ParamScheme& scheme(std::size_t param) const noexcept { return schemes_[param]; }
  /// PersistentAllreduce::memory and set_memory of a parameter.
  [[nodiscard]] std::string memory(std::size_t param) const;
  void set_memory(std::size_t param, std::string_view memory);
  /// PersistentAllreduce::adopt_memory.
  void adopt_memory(std::size_t param, std::string_view memory, const std::string& from);
  /// Buckets that may be in flight at once: one where they need memory beside that of the operations, to keep the
  /// workspace within twice a bucket, or where a bucket may be sent again.
  [[nodiscard]] std::size_t in_flight_limit() const noexcept { return in_flight_limit_; }

 private:
  [[nodiscard]] std::size_t place_of(std::size_t param) const noexcept;
  void add_bucket(const BucketPlan& plan, std::span<const ParamInfo> infos, std::span<const BucketParam> params,
                  const HookOptions& options);
  [[nodiscard]] PersistentAllreduce make_operation(std::vector<BucketItem> items, AllreduceOptions options) const;

  Communicator comm_;
  std::vector<ParamScheme> schemes_;
  std::vector<std::size_t> bucket_of_;
  std::vector<Bucket> buckets_;
  std::size_t in_flight_limit_ = kMaxInFlight;
  std::size_t largest_bucket_bytes_ = 0;  // as f32
};

}  // namespace gradwire
