#pragma once
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "gradwire/allreduce.hpp"
#include "gradwire/buffer.hpp"
#include "gradwire/hook.hpp"

namespace gradwire {

/// A few numbers that ranks add up beside the buckets of a step: a dense all-reduce with its own slot.
class SideSum {
 public:
  /// `name` is for messages. `count` 0: never started.
  SideSum(const Communicator& comm, std::size_t count, std::string name, Slot slot, const HookOptions& options);
  SideSum(const SideSum&) = delete;
  SideSum& operator=(const SideSum&) = delete;
  /// In flight: the transport may go on writing to its memory.
  ~SideSum();

  /// In: this rank's numbers, all finite; after a run, the sums.
  [[nodiscard]] std::span<float> values() noexcept;
  void start(std::uint64_t step, StreamRef stream);
  [[nodiscard]] bool in_flight() const noexcept { return work_.has_value(); }
  /// True when it has completed. Throws what Work::done() throws.
  bool advance();
  /// Bytes that were sent since the last call.
  [[nodiscard]] std::uint64_t take_wire_bytes() noexcept { return std::exchange(wire_bytes_, 0); }
  /// Whether it has run since the last call.
  [[nodiscard]] bool take_result() noexcept { return std::exchange(has_result_, false); }
  /// May be called from any thread.
  [[nodiscard]] std::string describe() const;

 private:
  std::size_t count_;
  Buffer values_;
  Buffer workspace_;
  std::optional<PersistentAllreduce> operation_;
  mutable std::mutex mutex_;  // of work_, against describe()
  std::optional<Work> work_;
  std::uint64_t wire_bytes_ = 0;
  bool has_result_ = false;
};

}  // namespace gradwire
