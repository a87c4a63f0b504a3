#pragma once
#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "train/buckets.hpp"

#include "gradwire/allreduce.hpp"
#include "gradwire/buffer.hpp"
#include "gradwire/feedback.hpp"
#include "gradwire/hook.hpp"

namespace gradwire {

/// Runs the buckets of one step, in order, a few in flight at once. One thread drives it; describe() may come from any.
class StepEngine {
 public:
  StepEngine(const Communicator& comm, std::span<const ParamInfo> params, const HookOptions& options);
  StepEngine(const StepEngine&) = delete;
  StepEngine& operator=(const StepEngine&) = delete;
  ~StepEngine();

  [[nodiscard]] std::size_t bucket_count() const noexcept { return buckets_.size(); }
  [[nodiscard]] std::size_t bucket_of(std::size_t param) const noexcept { return params_[param].bucket; }
  [[nodiscard]] std::size_t bucket_size(std::size_t bucket) const noexcept { return buckets_[bucket].params.size(); }
  [[nodiscard]] const ParamScheme& scheme(std::size_t param) const noexcept { return params_[param].scheme; }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept;
  [[nodiscard]] std::size_t state_bytes() const noexcept;
  [[nodiscard]] double residual_norm(std::size_t param) const;

  /// A step's gradients; each before its bucket is launched.
  void set_gradient(std::size_t param, Tensor gradient) noexcept { params_[param].gradient = gradient; }

  /// Whether the next bucket in order may be launched, as far as memory goes.
  [[nodiscard]] bool has_room() const noexcept { return next_ < buckets_.size() && next_ - oldest_ < in_flight_limit_; }
  [[nodiscard]] std::size_t next_bucket() const noexcept { return next_; }
  [[nodiscard]] bool in_flight() const noexcept { return oldest_ < next_; }
  [[nodiscard]] bool step_done() const noexcept { return oldest_ == buckets_.size(); }

  /// Launches the next bucket; with a refusal, without its gradients. Throws what puts ranks out of step.
  void launch(const std::optional<Verdict>& refusal);
  /// Moves the buckets in flight on; true when one completed. A failure all ranks agree on is kept for end_step();
  /// any other is thrown, and the engine is then of no further use.
  bool advance();
  /// After step_done(): commits state, or throws the failure all ranks agreed on. Ready for the next step either way.
  void end_step();

  /// The operations in flight and what they wait for; empty where there are none.
  [[nodiscard]] std::string describe() const;

  [[nodiscard]] std::uint64_t step() const noexcept { return step_; }
  /// Totals of the step, but for exposed time and parameters.
  [[nodiscard]] const StepReport& totals() const noexcept { return totals_; }

 private:
  static constexpr std::size_t kMaxInFlight = 2;

  struct Param {
    ParamInfo info;
    ParamScheme scheme;
    std::unique_ptr<FeedbackRule> rule;
    std::size_t bucket = 0;
    bool staged = false;            // a 16-bit gradient that travels as f32
    std::size_t staging_first = 0;  // byte in its arena
    Tensor gradient{};
  };
  struct Bucket {
    std::vector<std::size_t> params;
    bool dense = false;
    std::size_t workspace_first = 0;  // byte in its arena, after the staging
    std::size_t arena_bytes = 0;
    std::optional<PersistentAllreduce> operation;
    std::vector<ItemBuffers> buffers;
    std::optional<Work> work;  // while in flight
    bool done = false;
  };

  void add_bucket(const BucketPlan& plan, const HookOptions& options);
  [[nodiscard]] PersistentAllreduce make_operation(std::vector<BucketItem> items, AllreduceOptions options) const;
  void prepare_input(Param& param, const Bucket& bucket, ItemBuffers& buffers);
  void finish_bucket(Bucket& bucket);
  [[nodiscard]] Bytes arena(const Bucket& bucket) const noexcept;

  Communicator comm_;
  float scale_;
  std::vector<Param> params_;
  std::vector<Bucket> buckets_;
  /// One where gradients are staged as f32, to keep the workspace within twice a bucket.
  std::size_t in_flight_limit_ = kMaxInFlight;
  std::size_t largest_bucket_bytes_ = 0;  // as f32
  std::array<Buffer, kMaxInFlight> arenas_;
  mutable std::mutex mutex_;  // for describe(): what is in flight changes under it
  std::size_t next_ = 0;      // bucket to launch
  std::size_t oldest_ = 0;    // bucket in flight
  std::uint64_t step_ = 0;
  std::exception_ptr agreed_failure_;
  std::size_t agreed_failure_bucket_ = 0;
  StepReport totals_;
};

}  // namespace gradwire
