#pragma once
#include <cstddef>
#include <optional>
#include <span>

#include "base/device.hpp"
#include "collectives/operation.hpp"

namespace gradwire {

/// Throws Errc::invalid_argument where memory or stream are not where the operation is.
void require_space(const Operation& op, std::span<const ItemBuffers> buffers, Bytes workspace, StreamRef stream);

/// What runs on a device need beside a workspace: to know when the device is done, and what it has found.
class DeviceRun {
 public:
  explicit DeviceRun(std::size_t items);

  /// What has been put on `given`, by the calling thread, comes first. Gives the stream on which the operation runs:
  /// that one, or, for a default stream, one of its own, as other threads may move it on.
  [[nodiscard]] StreamRef stream_behind(StreamRef given);
  /// Before anything else is put on the operation's stream.
  void begin(Operation& op, Bytes workspace);
  /// The device that was current when it was made, whoever starts it and goes on with it.
  [[nodiscard]] int device() const noexcept { return device_; }
  /// Once all is on the stream: whether the device has come to its end. What it found is a verdict then.
  [[nodiscard]] bool done(Operation& op);
  /// The device may still write what it finds.
  void abandon() noexcept { non_finite_.abandon(); }

 private:
  int device_;
  device::Pinned non_finite_;          ///< Operation::non_finite
  std::optional<device::Stream> own_;  ///< once it was given a default stream
  device::Event end_;
  bool is_marked_ = false;                ///< `end_` is behind this run
  const std::byte* workspace_ = nullptr;  ///< has been cleared: not all of its bytes are written before they travel
};

}  // namespace gradwire
