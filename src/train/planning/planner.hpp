#pragma once
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/log.hpp"
#include "train/planning/choice.hpp"
#include "train/planning/device_samples.hpp"
#include "train/planning/layers.hpp"
#include "train/planning/sums.hpp"

#include "gradwire/buffer.hpp"
#include "gradwire/trace.hpp"

namespace gradwire {

/// What became of a solve.
struct Solved {
  std::optional<PlanAnswer> answer;
  std::string failure;  ///< where there is no answer
};

/// Measures copies of what was sent, and asks the policy, apart from the steps: on a thread of its own that paces
/// itself, or (share 0) at once, on the caller's; of device memory, on the device, in that thread's own stream or, at
/// once, in the step's. The step's thread calls it.
class Planner {
 public:
  /// `trace`: where samples and tables are written to; may be null. Throws Errc::unsupported for candidates that no
  /// device codes, where samples are in device memory.
  Planner(std::vector<PlannedLayer> layers, const HookOptions& options, int rank, std::unique_ptr<TraceWriter> trace);
  Planner(const Planner&) = delete;
  Planner& operator=(const Planner&) = delete;
  /// Waits for what is being measured or solved right now, no longer.
  ~Planner();

  struct At {
    std::uint64_t step = 0;
    double ready_us = 0;
  };
  /// Copies what is sent of a layer in this step; not where its last copy still waits to be measured.
  void offer(std::size_t layer, ConstTensor sent, const At& at, StreamRef stream);
  /// A step has ended, and so has all that was put on its stream.
  void add(const WindowSums::Steps& steps);
  /// What was measured so far, as WindowSums::pack() has it, and then forget() it.
  void take(std::span<float> out);
  /// Nothing counts that was copied before.
  void forget();

  /// Asks for a plan; without a policy the table goes into the trace only.
  void solve(std::uint64_t step, Table table, std::optional<Policy> policy, PlanQuestion question);
  /// The plan that was asked for last, once; nothing while it is not there.
  [[nodiscard]] std::optional<Solved> solved();

  struct Times {
    double measure_us = 0;
    double snapshot_us = 0;
  };
  [[nodiscard]] Times times() const;

 private:
  struct Copy {
    Buffer values{};  // of samples in host memory
    At at{};
    bool waits = false;  // or is being measured
  };
  struct Question {
    std::uint64_t number;
    std::uint64_t step;
    Table table;
    std::optional<Policy> policy;
    PlanQuestion question;
  };

  void run();
  void take_sample(std::size_t layer, ConstTensor sent, std::uint64_t step, StreamRef stream);
  void not_measured(std::uint64_t step, const char* why, log::Level level = log::Level::error) const;
  [[nodiscard]] bool is_ready(std::size_t layer) const;
  void begin_window();
  void measure(std::size_t layer);
  /// What measure() measures, of the sample taken in this step; and into the trace.
  [[nodiscard]] TableLayer look_at(std::size_t layer, std::uint64_t step);
  [[nodiscard]] RandomKey key_of(std::size_t layer, std::uint64_t step) const {
    return {seed_, step, static_cast<ParamId>(layers_[layer].param), 0};
  }
  void answer(const Question& question);
  template <class Write>
  void trace(Write&& write);
  [[nodiscard]] bool inline_only() const noexcept { return share_ == 0; }

  const std::vector<PlannedLayer> layers_;
  const double share_;
  const std::uint64_t seed_;
  const int rank_;
  std::unique_ptr<TraceWriter> trace_;
  std::optional<DeviceSamples> on_device_;

  mutable std::mutex mutex_;  // of all that follows
  std::condition_variable changed_;
  std::vector<Copy> copies_;  // values of one that waits are the measuring thread's
  std::deque<std::size_t> waiting_;
  std::uint64_t window_ = 0;  // what was copied before take() no longer counts
  WindowSums sums_;
  std::optional<Question> question_;
  std::uint64_t asked_ = 0;  // questions so far: only the last one's answer counts
  std::optional<Solved> solved_;
  Times times_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace gradwire
