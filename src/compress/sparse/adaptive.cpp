#include "compress/sparse/adaptive.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "compress/sparse/guess.hpp"
#include "compress/step_cache.hpp"

namespace gradwire::sparse {

/// Thresholds, as bits, by seed, parameter and number of elements. The step is that of an exact choice.
class AdaptiveThreshold::Cache : public StepCache<std::tuple<std::uint64_t, ParamId, std::size_t>, std::uint32_t> {};

AdaptiveThreshold::AdaptiveThreshold(const Density& density, std::uint32_t refresh)
    : density_(density), refresh_(refresh), cache_(std::make_shared<Cache>()) {}

std::string AdaptiveThreshold::spec() const {
  return fmt::format("adaptive_threshold({},refresh={})", density_.spec(), refresh_);
}

std::size_t AdaptiveThreshold::max_entries(std::size_t count) const {
  const std::size_t k = density_.of(count);
  return std::min(k + k / 4, count);
}

/// At least 4k/5 elements, the largest.
double AdaptiveThreshold::kept(std::size_t count) const {
  return count == 0 ? 1 : 0.8 * static_cast<double>(density_.of(count)) / static_cast<double>(count);
}

std::size_t AdaptiveThreshold::select(const Choice& choice, const Entries& out) const {
  const std::size_t k = density_.of(choice.x.count);
  if (k == 0) return 0;
  Scanner scanner(choice);
  const std::size_t most = max_entries(choice.x.count);
  const std::tuple piece(choice.key.seed, choice.key.param, choice.x.count);
  if (const auto threshold = cache_->find(piece, choice.key.step, refresh_)) {
    Survivors survivors(2 * most);
    if (survivors.gather(scanner, *threshold) && 5 * survivors.count() >= 4 * k) {
      if (survivors.count() <= most) return survivors.take_largest(most, out);
      std::uint32_t corrected = 0;
      const std::size_t taken = survivors.take_largest(k, out, &corrected);
      cache_->store(piece, choice.key.step, corrected);
      return taken;
    }
  }
  std::uint32_t threshold = 0;
  const std::size_t taken = select_largest(choice, scanner, k, out, &threshold);
  if (taken != 0) cache_->store(piece, choice.key.step, threshold);
  return taken;
}

StepMemory* AdaptiveThreshold::memory() const { return cache_.get(); }

}  // namespace gradwire::sparse
