#pragma once
#include <cstdint>

#include "gradwire/planning.hpp"

namespace gradwire {

/// Which step does what. Steps count from 0; all ranks count alike, and nothing else decides.
class Windows {
 public:
  /// `first`: the first step that may be measured. Throws Errc::invalid_argument for numbers that make no window.
  Windows(const PlanningOptions& options, std::uint64_t first);

  /// What is sent in this step is copied and measured: `samples` steps of a window's last half, at even distances.
  [[nodiscard]] bool samples(std::uint64_t step) const noexcept;
  /// Ranks add up what they measured: the window's last step.
  [[nodiscard]] bool exchanges(std::uint64_t step) const noexcept { return place(step) == period_ - 1; }
  /// Ranks compare their plans: `lag` steps later. Never in the first window.
  [[nodiscard]] bool compares(std::uint64_t step) const noexcept {
    return step >= first_ + period_ && place(step) == lag_ - 1;
  }
  /// Norms of layers are taken for the guards; ranks add them up in the next step.
  [[nodiscard]] bool watches(std::uint64_t step) const noexcept {
    return watch_ > 0 && step >= first_ && (step - first_) % watch_ == watch_ - 1;
  }

 private:
  /// In its window; beyond any for steps before the first.
  [[nodiscard]] std::uint64_t place(std::uint64_t step) const noexcept {
    return step < first_ ? period_ : (step - first_) % period_;
  }

  std::uint64_t first_;
  std::uint64_t period_;
  std::uint64_t samples_;
  std::uint64_t lag_;
  std::uint64_t watch_;
};

}  // namespace gradwire
