#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "gradwire/planning.hpp"
#include "gradwire/types.hpp"

namespace gradwire {

/// What watched steps show of each layer, summed over ranks in the step after, and who is out of bounds.
class Guards {
 public:
  Guards(std::size_t layers, const PlanningOptions& options)
      : max_layer_error_(options.max_layer_error),
        max_residual_ratio_(options.max_residual_ratio),
        now_(layers),
        last_(layers) {}

  [[nodiscard]] static constexpr std::size_t floats(std::size_t layers) noexcept { return kPerLayer * layers; }

  /// `watching`: whether this step is watched; what follows is of no effect in others.
  void begin_step(bool watching);
  [[nodiscard]] bool watching() const noexcept { return watching_; }
  /// A layer's gradient is scale * x, of any float dtype.
  void see_gradient(std::size_t layer, ConstTensor x, float scale);
  void see_sent(std::size_t layer, ConstTensor sent);
  /// Null data in `lost`: the layer is not guarded.
  void see_delivered(std::size_t layer, ConstTensor delivered, ConstTensor lost);
  /// `owed`: by layer, the norm of what the rank owes; read where the step is watched and was not dropped.
  void end_step(std::span<const double> owed, bool dropped);
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
  static constexpr std::size_t kPerLayer = 6;

  struct Seen {  // sums of squares
    double gradient = 0;
    double sent = 0;
    double delivered = 0;
    double lost = 0;
    double owed = 0;
    bool counts = false;  // all of them are known
  };

  double max_layer_error_;
  double max_residual_ratio_;
  bool watching_ = false;
  bool has_seen_ = false;
  std::vector<Seen> now_;
  std::vector<Seen> last_;  // of the step before, where has_seen_
};

}  // namespace gradwire
