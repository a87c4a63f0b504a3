#pragma once
#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/device.hpp"
#include "train/planning/agenda.hpp"
#include "train/state_file.hpp"
#include "train/step_sets.hpp"

#include "gradwire/buffer.hpp"
#include "gradwire/feedback.hpp"
#include "gradwire/hook.hpp"

namespace gradwire {

/// Runs the buckets of one step, in order, a few in flight at once, and keeps the parameters' state. Which buckets a
/// step has is the schedule's to say: all sets that can occur are made beforehand, so that steps allocate nothing. One
/// thread drives it; describe() may come from any.
class StepEngine {
 public:
  StepEngine(const Communicator& comm, std::span<const ParamInfo> params, const HookOptions& options);
  StepEngine(const StepEngine&) = delete;
  StepEngine& operator=(const StepEngine&) = delete;
  ~StepEngine();

  // Of the step that is under way, or else the next one.
  [[nodiscard]] std::size_t bucket_count() const noexcept { return set().buckets().size(); }
  /// BucketSet::kNoBucket for a frozen parameter.
  [[nodiscard]] std::size_t bucket_of(std::size_t param) const noexcept { return set().bucket_of(param); }
  [[nodiscard]] std::size_t bucket_size(std::size_t bucket) const noexcept {
    return set().buckets()[bucket].params.size();
  }
  /// Of the last step; before the first one, of the next.
  [[nodiscard]] const ParamScheme& last_scheme(std::size_t param) const noexcept { return last_set().scheme(param); }

  /// As registered, whatever plan holds.
  [[nodiscard]] const ParamPlan& plan(std::size_t param) const noexcept { return params_[param].travels.plan; }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept;
  [[nodiscard]] std::size_t state_bytes() const noexcept;
  [[nodiscard]] double residual_norm(std::size_t param) const;

  /// A step's gradients; each before its bucket is launched. `ready_us`: when it came, from the step's first.
  void set_gradient(std::size_t param, Tensor gradient, double ready_us) noexcept {
    params_[param].gradient = gradient;
    params_[param].ready_us = ready_us;
  }

  /// Whether the next bucket in order may be launched, as far as memory goes.
  [[nodiscard]] bool has_room() const noexcept {
    return next_ < bucket_count() && next_ - oldest_ < set().in_flight_limit();
  }
  [[nodiscard]] std::size_t next_bucket() const noexcept { return next_; }
  /// Or not done yet on the device.
  [[nodiscard]] bool in_flight() const;
  [[nodiscard]] bool step_done() const;
  /// The gradient is there when `stream` has come so far.
  void mark_ready(std::size_t param, StreamRef stream);

  /// Launches the next bucket; with a refusal, without its gradients. Throws what puts ranks out of step.
  void launch(const std::optional<Verdict>& refusal);
  /// Moves the buckets in flight on; true when one completed. A failure all ranks agree on is kept for end_step();
  /// any other is thrown, and the engine is then of no further use.
  bool advance();
  /// After step_done(): commits state, or drops the step or throws the failure all ranks agreed on, as HookOptions
  /// have it. Ready for the next step either way.
  void end_step();

  // Between steps.
  void rescale(float factor);
  [[nodiscard]] bool frozen(std::size_t param) const noexcept { return params_[param].travels.frozen; }
  void set_frozen(std::size_t param, bool frozen);
  [[nodiscard]] const PlanAgenda& agenda() const noexcept { return *agenda_; }
  /// Makes ready what runs this plan. Throws Errc::invalid_argument and whatever the algorithms refuse; nothing has
  /// changed then.
  [[nodiscard]] std::unique_ptr<StepSets> prepare_plan(const Plan& plan) const;
  /// From the next step on.
  void set_plan(const Plan& plan, std::unique_ptr<StepSets> prepared);
  /// The buckets of the last step.
  [[nodiscard]] std::vector<BucketReport> bucket_reports() const;

  // What survives between runs (train/checkpoint.hpp).
  [[nodiscard]] std::size_t param_count() const noexcept { return params_.size(); }
  [[nodiscard]] const ParamInfo& info(std::size_t param) const noexcept { return params_[param].travels.info; }
  /// param_count() where there is none of that name.
  [[nodiscard]] std::size_t index_of(std::string_view name) const noexcept;
  [[nodiscard]] std::vector<NamedState> state(std::size_t param) const { return params_[param].rule->state(); }
  [[nodiscard]] std::vector<SavedMemory> memories(std::size_t param) const { return sets_->memories(param); }
  /// StepSets::set_memories.
  void set_memories(std::size_t param, std::span<const SavedMemory> memories) { sets_->set_memories(param, memories); }
  /// Throws Errc::invalid_argument for layers that are none.
  void check_saved_plan(const SavedPlan& saved) const;
  /// Before memories are set, as these go with the sets that a plan makes. Throws what check_saved_plan() and
  /// prepare_plan() do.
  void set_saved_plan(const SavedPlan& saved);
  void set_step(std::uint64_t step, std::uint64_t skipped_steps, std::uint64_t dense_fallbacks);

  /// Destroyed in mid-step, after an abort: waits until the device is done with the gradients, or so long.
  void let_go(std::chrono::milliseconds patience) const noexcept;

  /// The operations in flight and what they wait for; empty where there are none.
  [[nodiscard]] std::string describe() const;

  [[nodiscard]] std::uint64_t step() const noexcept { return step_; }
  /// Totals of the step, but for exposed time and parameters.
  [[nodiscard]] const StepReport& totals() const noexcept { return totals_; }

 private:
  /// Why some parameters are sent dense in some steps that their schedules do not fix beforehand: every N-th step, or
  /// as long as their rule says (FeedbackRule::dense_steps_left()).
  struct DenseReason {
    std::uint64_t every = 0;
    std::string rule;  ///< with every = 0
  };
  static constexpr std::size_t kMaxReasons = 6;

  struct Param {
    StepParam travels;
    std::unique_ptr<FeedbackRule> rule;
    bool plain = false;               // always dense and without a rule: travels as it is, in its own memory
    bool keeps_state = false;         // in this step: its bucket was sent dense as it was not finite
    StateVector* residual = nullptr;  // of the rule, which has one at most
    std::size_t layer = kNoLayer;     // of the agenda
    Tensor gradient{};
    double ready_us = 0;
    std::unique_ptr<device::Event> ready{};  // null on the host
  };
  static constexpr std::size_t kNoLayer = std::numeric_limits<std::size_t>::max();

  void add_param(const ParamInfo& info, ParamPlan plan);
  void find_reasons();
  void find_layers();
  [[nodiscard]] std::unique_ptr<StepSets> make_sets(const PlanAgenda::Specs& specs) const;
  void run(std::unique_ptr<StepSets> sets);
  void choose_set();
  [[nodiscard]] BucketSet& set() noexcept { return (*sets_)[set_]; }
  [[nodiscard]] const BucketSet& set() const noexcept { return (*sets_)[set_]; }
  [[nodiscard]] const BucketSet& last_set() const noexcept { return (replaced_ ? *replaced_ : *sets_)[last_set_]; }
  void replan(bool dropped, const WindowSums::Steps& took);
  void see_owed(const Param& param);
  void prepare_input(const Bucket& bucket, std::size_t place, ItemBuffers& buffers);
  void fall_back(Bucket& bucket);
  void finish_bucket(Bucket& bucket);
  void drop_step();
  void commit();
  /// Between steps, as what a device does to state is not waited for else: the host reads state without a stream.
  void settle() const;
  [[nodiscard]] Tensor state_scratch() const noexcept {
    return state_scratch_.tensor(state_scratch_.size() / sizeof(float));
  }
  [[nodiscard]] StreamRef stream() const noexcept { return stream_ ? stream_->ref() : StreamRef::host(); }
  [[nodiscard]] Bytes arena(const Bucket& bucket) const noexcept;
  [[nodiscard]] Bytes workspace(const Bucket& bucket) const noexcept;
  [[nodiscard]] Tensor scratch(const Bucket& bucket, std::size_t place) const noexcept;

  Communicator comm_;
  const HookOptions options_;
  std::unique_ptr<device::Stream> stream_;  // null on the host; of all that is done to gradients and state
  std::unique_ptr<device::Event> updated_;  // behind what has made gradients updates
  float scale_;
  std::vector<Param> params_;
  std::vector<DenseReason> reasons_;
  std::optional<PlanAgenda> agenda_;
  std::unique_ptr<StepSets> sets_;
  std::unique_ptr<StepSets> replaced_;  // that the last step ran on, where the next one has others
  std::size_t set_ = 0;
  std::size_t last_set_ = 0;  // the last step's
  std::array<Buffer, BucketSet::kMaxInFlight> arenas_;
  mutable std::mutex mutex_;  // for describe(): what is in flight changes under it
  std::size_t next_ = 0;      // bucket to launch
  std::size_t oldest_ = 0;    // bucket in flight
  std::uint64_t step_ = 0;
  std::exception_ptr agreed_failure_;
  std::pair<bool, std::size_t> agreed_failure_order_;  // whether it is Errc::non_finite, and its bucket
  StepReport totals_;
  Buffer state_scratch_;  // f32, for values that are not stored as that
  Clock::time_point step_began_;
  Clock::time_point busy_since_;
  double busy_us_ = 0;  // of the step: buckets were in flight
  std::uint64_t skipped_steps_ = 0;
  std::uint64_t dense_fallbacks_ = 0;
};

}  // namespace gradwire
