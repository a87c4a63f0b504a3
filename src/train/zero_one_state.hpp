#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "train/state_file.hpp"

#include "gradwire/buffer.hpp"

/// \file What ZeroOneAdam keeps from step to step besides what is owed, and how it is saved.
namespace gradwire {

/// When something happens whose interval doubles after each `period` counts, up to `most`.
class Interval {
 public:
  static constexpr std::uint64_t kUnlimited = std::uint64_t{1} << 62;

  Interval(std::uint64_t period, std::uint64_t most) : period_(period), most_(most) {}
  [[nodiscard]] bool hits(std::uint64_t step) const noexcept { return step % length_ == 0; }
  void count() noexcept {
    if (++counted_ < period_) return;
    counted_ = 0;
    length_ = length_ <= most_ / 2 ? length_ * 2 : most_;
  }

 private:
  std::uint64_t period_;
  std::uint64_t most_;
  std::uint64_t length_ = 1;
  std::uint64_t counted_ = 0;
};

/// A parameter's momentum and variance as saved: f32.
struct SavedMoments {
  std::string param;
  std::string m;
  std::string v;
};

/// Of one parameter.
struct Moments {
  std::size_t count = 0;
  std::vector<float> m;
  std::vector<float> v;
  // In local steps:
  std::vector<float> base = {};  // weights of the last exchange
  Buffer way = {};               // f32, the sum of rate m since then

  /// Throws Errc::bad_state for another number of elements.
  void restore(const SavedMoments& saved);
};

/// Makes a ZeroOneAdam's state of its engine's: momentum and variance, the same on all ranks, stand behind what is
/// owed.
void add_moments(SavedState& state, std::span<const Moments> moments);

/// The other way round.
struct SplitState {
  SavedState engine;
  std::vector<SavedMoments> moments;
};
/// Throws Errc::bad_state for a hook's state.
[[nodiscard]] SplitState split_moments(const SavedState& state);

}  // namespace gradwire
