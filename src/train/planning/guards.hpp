#pragma once
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/device.hpp"

#include "gradwire/planning.hpp"
#include "gradwire/types.hpp"

namespace gradwire {

/// What watched steps show of each layer, summed over ranks in the step after, and who is out of bounds.
class Guards {
 public:
  /// `space`: of what it sees. On a device that is looked at there, in the order of streams.
  Guards(std::size_t layers, const PlanningOptions& options, Space space = Space::host);

  [[nodiscard]] static constexpr std::size_t floats(std::size_t layers) noexcept { return kPerLayer * layers; }

  /// `watching`: whether this step is watched; what follows is of no effect in others.
  void begin_step(bool watching);
  [[nodiscard]] bool watching() const noexcept { return watching_; }
  /// A layer's gradient is scale * x, of any float dtype.
  void see_gradient(std::size_t layer, ConstTensor x, float scale, StreamRef stream);
  void see_sent(std::size_t layer, ConstTensor sent, StreamRef stream);
  /// Null data in `lost`: the layer is not guarded.
  void see_delivered(std::size_t layer, ConstTensor delivered, ConstTensor lost, StreamRef stream);
  /// What the rank owes after the step, once a step. Not called for a layer without a residual: 0.
  void see_owed(std::size_t layer, ConstTensor values, StreamRef stream);
  /// When all that was put on streams is done.
  void end_step(bool dropped);
  /// What the step before has seen waits to be summed.
  [[nodiscard]] bool has_seen() const noexcept { return has_seen_; }
  void pack(std::span<float> out) const;
  void forget() noexcept { has_seen_ = false; }

  struct Finding {
    std::size_t layer;
    std::string why;
  };
  /// Of what pack() gave, summed over ranks. Layers that some rank did not watch are in order.
  [[nodiscard]] std::vector<Finding> check(std::span<const float> sums, int ranks) const;

 private:
  /// Of whose squares there are sums, in the order in which pack() has them.
  enum class Quantity : std::size_t { gradient, sent, delivered, lost, owed };
  static constexpr std::size_t kSums = static_cast<std::size_t>(Quantity::owed) + 1;
  static constexpr std::size_t kPerLayer = 1 + kSums;  // whether it counts, and the sums

  struct Seen {
    std::array<double, kSums> squares{};
    bool counts = false;  // all of them are known
  };
  void see(std::size_t layer, Quantity what, const ConstTensor& x, float scale, StreamRef stream);

  double max_layer_error_;
  double max_residual_ratio_;
  bool watching_ = false;
  bool has_seen_ = false;
  std::vector<Seen> now_;
  std::vector<Seen> last_;                  // of the step before, where has_seen_
  std::unique_ptr<device::Results> found_;  // null on hosts; by layer, Norms of each sum
};

}  // namespace gradwire
