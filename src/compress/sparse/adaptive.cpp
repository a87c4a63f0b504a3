#include "compress/sparse/adaptive.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "compress/sparse/guess.hpp"

namespace gradwire::sparse {

/// Thresholds of parameters. Ranks that share a compressor differ in the seed, so the seed is part of the key.
class AdaptiveThreshold::Cache {
 public:
  struct Record {
    std::uint32_t threshold;
    std::uint64_t step;  ///< of the exact choice that it comes from
  };

  /// A threshold that this step may use.
  [[nodiscard]] std::optional<std::uint32_t> find(const Choice& choice, std::uint32_t refresh) {
    const std::lock_guard lock(mutex_);
    const auto found = records_.find(id_of(choice));
    if (found == records_.end()) return {};
    const auto& [threshold, step] = found->second;
    // Not of this step, which is being repeated, nor of a later one, as after a restart.
    const bool usable = choice.key.step > step && choice.key.step - step < refresh;
    return usable ? std::optional(threshold) : std::nullopt;
  }

  void store(const Choice& choice, std::uint32_t threshold) {
    const std::lock_guard lock(mutex_);
    if (records_.size() >= kMostRecords) records_.clear();  // a caller whose seeds never come again
    records_[id_of(choice)] = {threshold, choice.key.step};
  }

 private:
  using Id = std::tuple<std::uint64_t, ParamId, std::size_t>;
  static constexpr std::size_t kMostRecords = std::size_t{1} << 20;

  static Id id_of(const Choice& choice) { return {choice.key.seed, choice.key.param, choice.x.count}; }

  std::mutex mutex_;
  std::map<Id, Record> records_;
};

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
  if (const auto threshold = cache_->find(choice, refresh_)) {
    Survivors survivors(2 * most);
    if (survivors.gather(scanner, *threshold) && 5 * survivors.count() >= 4 * k) {
      if (survivors.count() <= most) return survivors.take_largest(most, out);
      std::uint32_t corrected = 0;
      const std::size_t taken = survivors.take_largest(k, out, &corrected);
      cache_->store(choice, corrected);
      return taken;
    }
  }
  std::uint32_t threshold = 0;
  const std::size_t taken = select_largest(choice, scanner, k, out, &threshold);
  if (taken != 0) cache_->store(choice, threshold);
  return taken;
}

}  // namespace gradwire::sparse
