#include "compress/sparse/adaptive.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "base/device.hpp"
#include "compress/sparse/guess.hpp"
#include "compress/step_cache.hpp"

namespace gradwire::sparse {

/// Thresholds, as bits, by seed, parameter and number of elements. The step is that of an exact choice.
class AdaptiveThreshold::Cache : public StepCache<std::tuple<std::uint64_t, ParamId, std::size_t>, std::uint32_t> {
 public:
  using Piece = std::tuple<std::uint64_t, ParamId, std::size_t>;

  Cache() = default;
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;
  ~Cache() override { forget_devices(); }

  /// Where a device has a piece's threshold: at first what the host knows.
  [[nodiscard]] device::StepThreshold* on_device(const Piece& piece) {
    const std::scoped_lock lock(mutex_);
    if (const auto found = on_device_.find(piece); found != on_device_.end()) return found->second;
    if (on_device_.size() >= kMostPieces) forget_devices();
    device::StepThreshold known{};
    if (const auto entry = learned(piece)) known = {entry->step, entry->value, 0};
    const device::Stream stream;
    auto* const slot = reinterpret_cast<device::StepThreshold*>(device::allocate(sizeof known));
    on_device_.emplace(piece, slot);
    device::copy(slot, &known, sizeof known, stream.ref());
    device::wait(stream.ref());
    return slot;
  }

  [[nodiscard]] std::string save() const override {
    const std::scoped_lock lock(mutex_);
    if (on_device_.empty()) return StepCache::save();
    StepCache<Piece, std::uint32_t> all;
    all.restore(StepCache::save());
    const device::Stream stream;
    for (const auto& [piece, slot] : on_device_) {
      device::StepThreshold known{};
      device::copy(&known, slot, sizeof known, stream.ref());
      device::wait(stream.ref());
      if (known.magnitude != 0) all.store(piece, known.step, known.magnitude);
    }
    return all.save();
  }

  void restore(std::string_view saved) override {
    StepCache::restore(saved);
    const std::scoped_lock lock(mutex_);
    forget_devices();
  }

 private:
  void forget_devices() noexcept {
    for (const auto& [piece, slot] : on_device_) device::release(reinterpret_cast<std::byte*>(slot));
    on_device_.clear();
  }

  mutable std::mutex mutex_;
  std::map<Piece, device::StepThreshold*> on_device_;
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
  rule.guess.memory = cache_->on_device({key.seed, key.param, count});
  rule.guess.step = key.step;
  rule.guess.refresh = refresh_;
  return rule;
}

StepMemory* AdaptiveThreshold::memory() const { return cache_.get(); }

}  // namespace gradwire::sparse
