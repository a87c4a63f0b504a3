#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gradwire/export.hpp"
#include "gradwire/plan.hpp"
#include "gradwire/planning.hpp"
#include "gradwire/transport.hpp"
#include "gradwire/types.hpp"
#include "gradwire/work.hpp"

namespace gradwire {

/// One parameter of the model, as registered. Register in forward order, the same on every rank.
struct ParamInfo {
  ParamId id{};
  std::string name;
  std::vector<std::size_t> shape;
  DType dtype = DType::f32;
  std::string compressor = {};  ///< a scheme that overrides HookOptions::compressor; empty means the default
  std::string rule = {};        ///< overrides HookOptions::rule; empty means the default
};

/// What a step does in which gradients hold NaN or Inf, on whatever rank (all ranks agree on it).
enum class NonFinite : std::uint8_t {
  skip,   ///< the step's update is zero, what is owed and momenta stay; StepReport counts it, GradientHook::skipped()
          ///< tells
  dense,  ///< buckets that hold some are summed dense, NaN and Inf and all, and the state of their parameters stays
  error,  ///< the step fails with Errc::non_finite; what is owed and momenta stay
};

struct HookOptions {
  /// A scheme: a compressor, or COMPRESSOR[+RULE][+SCHEDULE...], such as "topk(0.001)+dgc(0.9)+warmup(500)"
  /// (docs/feedback.md). A rule in it goes before `rule`.
  std::string compressor = "q4";
  std::string rule = "ef";
  std::string algorithm = "auto";        ///< of the buckets of frames; low rank has "lowrank" or "hierarchical"
  std::string inner = "none";            ///< `hierarchical`: the compressor of what stays inside a node
  std::size_t bucket_bytes = 4u << 20;   ///< f32 bytes after which a bucket is closed
  std::size_t dense_below_elems = 1024;  ///< smaller and 1-D parameters are grouped and sent dense
  std::uint64_t seed = 0;
  std::chrono::milliseconds timeout{0};  ///< of every operation; 0 means GRADWIRE_TIMEOUT_MS
  bool average = true;                   ///< the update is the mean over ranks; false: the sum
  bool library_thread = true;            ///< false: the caller drives, by progress() and the Work of finish_step()
  NonFinite non_finite = NonFinite::skip;
  /// Where gradients are; state and workspace are there too. On a device (the one that is current at construction,
  /// whichever is in later calls) every compressor, candidates of a plan included, needs CompressorTraits::on_device;
  /// docs/gpu.md has all that differs.
  Space space = Space::host;
  PlanningOptions planning = {};
};

/// What became of one parameter in the last step.
struct ParamReport {
  std::string name;
  std::string compressor;  ///< "dense" where it is sent dense, the fallback's spec where low rank does not pay
  std::string rule;
  std::size_t count = 0;
  double residual_norm = 0;  ///< l2 norm of what this rank still owes
};

/// One bucket of the last step, on this rank. Times are from the step's first launch.
struct BucketReport {
  std::vector<std::size_t> params;  ///< indices of registration
  double launch_us = 0;             ///< gradients were complete and there was room
  double done_us = 0;
  double encode_us = 0;
  double wire_us = 0;  ///< waiting for peers and network
  double decode_us = 0;
  std::uint64_t wire_bytes = 0;
};

/// The last step, on this rank. Times of different buckets overlap; exposed time is what the training loop waited.
struct StepReport {
  std::uint64_t step = 0;         ///< steps completed so far
  std::uint64_t dense_bytes = 0;  ///< what an optimal dense allreduce would have sent: 2(n-1)/n of the gradients
  std::uint64_t wire_bytes = 0;   ///< what was sent
  double encode_us = 0;
  double wire_us = 0;  ///< waiting for peers and network
  double decode_us = 0;
  double exposed_us = 0;              ///< from finish_step() to completion
  bool skipped = false;               ///< its gradients were not finite: the update is zero
  std::uint64_t skipped_steps = 0;    ///< since the hook was made
  std::uint64_t dense_fallbacks = 0;  ///< buckets since then that were sent dense as they were not finite
  std::vector<ParamReport> params;
  std::vector<BucketReport> buckets;  ///< in the order of their launch
};

/// Data-parallel training in three calls: register once, `ready` for each gradient during backward, `finish_step`.
///
/// Parameters are grouped into buckets in backward (reverse registration) order, and buckets are launched in that one
/// order on every rank, each as soon as its gradients are ready, so that communication overlaps backward.
///
/// A step is a transaction: if it fails with Errc::invalid_argument (a gradient that never came) or, under
/// NonFinite::error, with Errc::non_finite on one rank, it fails so on all of them, the rules' state has not changed,
/// and the next step may follow. (Warm starts, learned levels and thresholds, which only guess, may have moved on with
/// the buckets that were sent.) Gradients then hold unspecified values.
///
/// After any other failure (Errc::timeout, Errc::aborted, ...) the communicator is spent, and the backend may go on
/// using the gradients that were in flight: they must stay allocated. The hook sees to its own memory.
class GRADWIRE_API GradientHook {
 public:
  /// Collective: all ranks compare what they registered. Throws Errc::rank_mismatch naming rank, parameter and values;
  /// Errc::invalid_argument for duplicate or empty parameters, a bad spec, or a communicator that another hook uses
  /// (each hook needs its own: its thread starts operations whenever gradients are ready); Errc::unsupported for
  /// library_thread over a transport that only the caller's thread may use. Where one rank throws for its own
  /// registration, the others throw Errc::rank_mismatch with its message.
  GradientHook(Communicator comm, std::vector<ParamInfo> params, HookOptions options = {});
  GradientHook(GradientHook&&) noexcept;
  GradientHook& operator=(GradientHook&&) noexcept;
  /// Never throws and never waits for peers: destroyed in mid-step, it aborts the communicator so that none hang.
  /// Gradients must outlive it: declare them first.
  ~GradientHook();

  /// From a step's first `ready` until its Work is done the communicator is the hook's: other operations on it, such as
  /// a metric's sum, would meet the hook's in an order that differs between ranks. They need a communicator of their
  /// own.
  ///
  /// The gradient is complete, on a device once `stream` has come so far; call in any order, from any one thread at a
  /// time. It belongs to the hook until the step's Work is done, and then holds the update. Throws
  /// Errc::invalid_argument for an unknown parameter, a wrong count or dtype, or a second call in one step; the step
  /// itself is not harmed.
  void ready(ParamId param, Tensor gradient, StreamRef stream = StreamRef::host());
  /// Instead of ready(), for a parameter that this rank's loss did not use in this step, and for every parameter of a
  /// rank that has run out of data: zeros go in (with what the rule still owes), the update comes out. The divisor of
  /// the mean stays the number of ranks.
  void unused(ParamId param, Tensor gradient, StreamRef stream = StreamRef::host());

  /// While it lives, gradients are only accumulated, by the training loop in their own memory: ready() and unused()
  /// do nothing, and finish_step() is refused. The ready() of a later step, without a guard, sends the whole sum.
  using NoSync = std::shared_ptr<void>;
  [[nodiscard]] NoSync no_sync();

  /// Collective: ends the step. The Work fails with Errc::invalid_argument on every rank when a gradient is missing on
  /// one. Wait for it before the next `ready`. The Work stands for the hook's newest step: one that is kept beyond the
  /// next finish_step() speaks of that step.
  /// On a device the updates are there, for whatever stream, once the Work is done.
  [[nodiscard]] Work finish_step();

  // Between steps (after a step's Work is done and before the next ready()), on all ranks alike:

  /// The loss scale changed from `from` to `to`: all state is multiplied by to/from as often as gradients are a factor
  /// of it (NamedState::degree).
  void rescale(double from, double to);
  /// A frozen parameter takes no part in steps and needs no ready(); its state waits. Rebuilds all buckets, so warm
  /// starts of low rank begin anew.
  void set_frozen(ParamId param, bool frozen);
  /// Writes this rank's state (residuals, momenta, warm starts, the step that schedules and random numbers go by) to
  /// FOLDER/rank-R-of-N.gradwire: first beside it and synced, then renamed, so a file is there whole or not at all.
  /// Every rank calls it after the same step; use a folder for each checkpoint. Throws Errc::io.
  void save(const std::string& folder) const;
  /// Collective: takes up what save() wrote, before a first or between two steps. With the same number of ranks,
  /// options and gradients, training goes on bit for bit as if it had not stopped, but for planning: the plan in force
  /// and what guards have ruled out are there, what was measured, watched or solved since is not, so that the next
  /// plan may be another. From another number of ranks: what ranks owed, and
  /// what are parts of a sum, is summed and shared out in equal parts, so that the conservation law holds. Parameters
  /// match by name. Throws Errc::bad_state for torn, foreign or missing files and for another model (listing each
  /// missing, new or changed parameter), Errc::io, Errc::rank_mismatch where another rank could not or ranks read
  /// different states; the live state is untouched then, but that planning measures anew.
  void load(const std::string& folder);
  /// Collective: from the next step on, each layer of the plan has the compressor that the plan names; residuals and
  /// warm starts stay. Throws Errc::invalid_argument for a layer that is no planned parameter, or a spec that the hook
  /// cannot run, for no layers or one twice, for figures that are NaN, negative or too large for JSON, and for sums
  /// that are given (not 0) and not the layers'; Errc::rank_mismatch where ranks differ, in figures too, or another one
  /// could not. The old plan stays then.
  void set_plan(const Plan& plan);
  /// What layers have now: the last plan's figures (0 where none was made) of all planned parameters.
  [[nodiscard]] Plan plan() const;
  /// The table that the last plan was made from; no layers before that.
  [[nodiscard]] Table table() const;
  [[nodiscard]] PlanningReport planning() const;
  /// Whether NonFinite::skip dropped the last step. A loss scaler lowers its scale then.
  [[nodiscard]] bool skipped() const;

  /// Advances communication; only for library_thread = false. Does not block, but for the first step, and the first one
  /// of a plan, in which it (like
  /// `ready` and finish_step()) waits for the other ranks before each bucket's first message, and for a `checked`
  /// communicator, which does so in every step.
  void progress();

  /// The last completed step; Errc::invalid_argument while one is under way, from its first ready() on. Computes
  /// residual norms, so it reads every residual once.
  [[nodiscard]] StepReport report() const;
  /// Scratch held for communication, known before the first step (a plan may come to need more): at most twice the
  /// largest bucket (its elements as f32). Buckets under 64 KiB a rank may need more, as segments are not cut below 4
  /// KiB, and so may low rank with ranks that are a large part of the matrices' sides, sparsifiers that keep a quarter
  /// of the elements and more
  /// (`threshold` may keep all: 8 times a bucket and more), and rules that need scratch (FeedbackRule::needs_scratch).
  [[nodiscard]] std::size_t workspace_bytes() const noexcept;
  /// Memory of the feedback rules: for `ef`, 8 bytes an element (the residual and the pending one).
  [[nodiscard]] std::size_t state_bytes() const noexcept;
  [[nodiscard]] std::size_t bucket_count() const noexcept;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace gradwire
