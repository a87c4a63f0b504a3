#include "compress/sparse/adaptive.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "base/device.hpp"
#include "compress/sparse/guess.hpp"
#include "compress/step_cache.hpp"

#include "gradwire/buffer.hpp"

namespace gradwire::sparse {

/// Thresholds, as bits, by seed, parameter and number of elements. The step is that of an exact choice.
class AdaptiveThreshold::Cache : public StepCache<std::tuple<std::uint64_t, ParamId, std::size_t>, std::uint32_t> {
 public:
  using Piece = std::tuple<std::uint64_t, ParamId, std::size_t>;

  /// Where the calling thread's device has a piece's threshold: at first what the host knows, for which it waits.
  [[nodiscard]] device::StepThreshold* slot_on_device(const Piece& piece) {
    const std::scoped_lock lock(mutex_);
    const std::pair place(device::current(), piece);
    if (const auto found = slots_.find(place); found != slots_.end()) return threshold_in(found->second);
    if (slots_.size() >= kMostPieces) slots_.clear();
    device::StepThreshold known{};
    if (const auto entry = learned(piece)) known = {entry->step, entry->value, 0};
    Buffer slot(sizeof known, Space::device);
    device::copy_now(slot.data(), &known, sizeof known);
    return threshold_in(slots_.emplace(place, std::move(slot)).first->second);
  }

  [[nodiscard]] std::string save() const override {
    const std::scoped_lock lock(mutex_);
    if (slots_.empty()) return StepCache::save();
    StepCache<Piece, std::uint32_t> all;
    all.restore(StepCache::save());
    for (const auto& [place, slot] : slots_) {
      device::StepThreshold known{};
      device::copy_now(&known, slot.data(), sizeof known);
      if (known.magnitude != 0) all.store(place.second, known.step, known.magnitude);
    }
    return all.save();
  }

  void restore(std::string_view saved) override {
    StepCache::restore(saved);
    const std::scoped_lock lock(mutex_);
    slots_.clear();
  }

 private:
  [[nodiscard]] static device::StepThreshold* threshold_in(const Buffer& slot) noexcept {
    return reinterpret_cast<device::StepThreshold*>(slot.data());
  }

  mutable std::mutex mutex_;
  std::map<std::pair<int, Piece>, Buffer> slots_;  // by device and piece
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

std::optional<device::SparseRule> AdaptiveThreshold::device_rule(std::size_t count, const RandomKey& key) const {
  const std::size_t k = density_.of(count);
  device::SparseRule rule{device::SparseRule::Kind::largest, k};
  if (k == 0) return rule;
  rule.guesses = true;
  rule.guess.memory = cache_->slot_on_device({key.seed, key.param, count});
  rule.guess.step = key.step;
  rule.guess.refresh = refresh_;
  return rule;
}

StepMemory* AdaptiveThreshold::memory() const { return cache_.get(); }

}  // namespace gradwire::sparse
