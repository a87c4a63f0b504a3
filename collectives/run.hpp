#pragma once
#include <compare>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "collectives/algorithm.hpp"
#include "collectives/device_run.hpp"
#include "collectives/operation.hpp"
#include "collectives/pipeline.hpp"

#include "gradwire/buffer.hpp"

namespace gradwire {

/// What every entry point runs: a bucket, the algorithm chosen for it, and the run under way.
class Run final : public Completion {
 public:
  using Clock = std::chrono::steady_clock;

  Run(Operation operation, const AllreduceOptions& options);
  ~Run() override;

  [[nodiscard]] std::string_view algorithm() const noexcept { return name_; }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept { return algorithm_->workspace_bytes(); }
  [[nodiscard]] const OperationStats& stats() const noexcept { return last_stats_; }
  [[nodiscard]] bool in_step() const noexcept { return state_ != State::failed; }

  /// As PersistentOperation::start.
  void start(std::span<const ItemBuffers> buffers, Bytes workspace, std::uint64_t step, StreamRef stream,
             const std::optional<Verdict>& refusal = std::nullopt);
  /// As PersistentAllreduce::memory, set_memory and adopt_memory.
  [[nodiscard]] std::string memory(std::size_t item) const;
  void set_memory(std::size_t item, std::string_view memory);
  void adopt_memory(std::size_t item, std::string_view memory, const Compressor& from);
  /// For the one-shot forms: memory that lives as long as the operation.
  void own_workspace(Buffer workspace) { workspace_ = std::move(workspace); }

  bool poll() override;
  [[nodiscard]] std::string describe() const override;

 private:
  enum class State { idle, running, done, failed };

  /// What a rank found, as ranks exchange it; the one that sorts first counts.
  struct VerdictMessage {
    std::uint32_t rank = 0;
    std::uint32_t param = 0;
    std::uint32_t code = 0;
    // Sent on devices only, whose messages lack envelopes that say these.
    std::uint32_t number = 0;
    std::uint64_t fingerprint = 0;
    std::uint64_t step = 0;
    auto operator<=>(const VerdictMessage&) const = default;
  };

  [[nodiscard]] std::string describe_operation() const;
  [[nodiscard]] std::string describe_step() const;
  [[nodiscard]] std::span<VerdictMessage> verdict_messages() const noexcept;
  [[nodiscard]] std::size_t verdict_bytes() const noexcept;
  void agree_first(std::uint64_t step);
  void first_step() noexcept;
  void check_in_step() const;
  bool verdicts_agree();
  Work exchange_verdicts();
  void give_up() noexcept;
  void deliver_verdict();

  mutable std::mutex mutex_;  // describe() may be called while another thread drives
  Operation op_;
  std::chrono::milliseconds timeout_;
  std::string_view name_;
  std::vector<Agreement> agreement_;
  bool compares_steps_ = false;  // the last entry of agreement_ is the step, without which codes mean other things
  std::unique_ptr<Algorithm> algorithm_;
  std::optional<Pipeline> pipeline_;
  Buffer workspace_;
  Clock::time_point started_;
  State state_ = State::idle;
  bool agreed_ = false;  // all ranks have agreed on what this is
  std::size_t elems_ = 0;
  Buffer verdict_memory_;  // by rank; the backend reads and writes it
  std::vector<Send> sends_;
  std::vector<Recv> recvs_;
  std::optional<Work> exchanging_verdicts_;
  std::unique_ptr<DeviceRun> device_;  // null on the host
  std::exception_ptr failure_;
  OperationStats last_stats_;
};

/// A run that is made once: see allreduce_sum.
[[nodiscard]] Work run_once(Operation operation, std::span<const Item> items, StreamRef stream,
                            const AllreduceOptions& options, std::uint64_t step);

}  // namespace gradwire
