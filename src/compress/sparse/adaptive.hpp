#pragma once
#include <memory>

#include "compress/sparse/selection.hpp"

namespace gradwire::sparse {

/// Ok-Topk's reused threshold (arXiv:2201.07598): the k-th largest magnitude of an earlier step, as long as 4k/5 to
/// 5k/4 elements reach it; exact where they do not, on the first step of a parameter, and every `refresh` steps. The
/// paper nudges a threshold that has drifted; here the step that notices corrects it by an exact choice, which costs
/// that step one pass more and keeps kept() proven.
///
/// Choices depend on the steps before. A step that is repeated gives what it gave. On a device, thresholds stay in its
/// memory: what save() and restore() are called between must be done.
class AdaptiveThreshold final : public Selection {
 public:
  AdaptiveThreshold(const Density& density, std::uint32_t refresh);

  [[nodiscard]] std::string spec() const override;
  [[nodiscard]] std::size_t max_entries(std::size_t count) const override;
  std::size_t select(const Choice& choice, const Entries& out) const override;
  [[nodiscard]] double kept(std::size_t count) const override;
  [[nodiscard]] StepMemory* memory() const override;
  /// Allocates device memory, and waits for it, when a piece is first seen.
  [[nodiscard]] std::optional<device::SparseRule> device_rule(std::size_t count, const RandomKey& key) const override;

 private:
  class Cache;

  Density density_;
  std::uint32_t refresh_;
  std::shared_ptr<Cache> cache_;
};

}  // namespace gradwire::sparse
