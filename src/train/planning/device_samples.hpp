#pragma once
#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "base/device.hpp"
#include "plan/device_measurement.hpp"
#include "train/planning/layers.hpp"

#include "gradwire/buffer.hpp"

namespace gradwire {

/// What a planner does with samples in device memory. The step's thread does not wait for the device here, but for what
/// `adaptive_threshold` among the candidates allocates.
class DeviceSamples {
 public:
  /// `at_once`: measured in the order of the step's own stream, by launch() and finish(), without copies. Else copied,
  /// and measured by another thread. `keeps_values`: for a trace. Throws what DeviceMeasurement does.
  DeviceSamples(std::span<const PlannedLayer> layers, bool at_once, bool keeps_values);
  DeviceSamples(const DeviceSamples&) = delete;
  DeviceSamples& operator=(const DeviceSamples&) = delete;
  /// Memory that the device still uses is given up.
  ~DeviceSamples();

  // At once:
  void launch(std::size_t layer, ConstTensor sent, const RandomKey& key, StreamRef stream);
  /// Of the layer's last launch, when the stream has come so far.
  [[nodiscard]] TableLayer finish(std::size_t layer) const;

  // Else:
  void copy(std::size_t layer, ConstTensor sent, StreamRef stream);
  /// Whether measure() finds all that it needs: the layer's last copy, and nothing of an earlier measurement under way.
  [[nodiscard]] bool is_ready(std::size_t layer) const;
  /// Measures the layer's last copy on a stream of its own, and waits for it. Any thread, one at a time. Throws
  /// Errc::timeout after GRADWIRE_TIMEOUT_MS, Errc::aborted after stop().
  [[nodiscard]] TableLayer measure(std::size_t layer, const RandomKey& key);
  /// Ends a wait. Any thread.
  void stop() noexcept { stopped_ = true; }

  /// Of what was measured last, in host memory, with `keeps_values`.
  [[nodiscard]] ConstTensor values(std::size_t layer) const;

 private:
  struct Layer {
    DeviceMeasurement measurement;
    Buffer copy{};
    std::unique_ptr<device::Event> copied{};
  };
  /// At once: each layer has its own.
  [[nodiscard]] device::Results& results(std::size_t layer) const { return *results_[at_once_ ? layer : 0]; }

  const bool at_once_;
  const int device_;
  std::vector<Layer> layers_;
  std::vector<std::unique_ptr<device::Results>> results_;
  std::unique_ptr<device::Stream> stream_;  // null at once
  std::atomic<bool> stopped_ = false;
};

}  // namespace gradwire
