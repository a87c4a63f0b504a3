#include "train/planning/windows.hpp"

#include <algorithm>

#include "base/fail.hpp"

namespace gradwire {

Windows::Windows(const PlanningOptions& options, std::uint64_t first)
    : first_(std::max(first, options.start)),
      period_(options.period),
      samples_(options.samples),
      lag_(options.lag),
      watch_(options.watch) {
  require(period_ >= 2, "planning: a window has a period of 2 steps or more, given {}", period_);
  require(samples_ >= 1 && samples_ <= period_ / 2, "planning: samples are 1 to half a period ({}), given {}",
          period_ / 2, samples_);
  require(lag_ >= 1 && lag_ < period_, "planning: the lag is 1 step to less than a period ({}), given {}", period_,
          lag_);
}

bool Windows::samples(std::uint64_t step) const noexcept {
  const std::uint64_t at = place(step);
  const std::uint64_t half = period_ / 2;
  const std::uint64_t begin = period_ - 1 - half;
  if (at < begin || at >= period_ - 1) return false;
  // The i-th of them is at begin + floor(i * half / samples).
  const std::uint64_t i = ((at - begin) * samples_ + half - 1) / half;
  return i < samples_ && i * half / samples_ == at - begin;
}

}  // namespace gradwire
