#pragma once
#include "compress/sparse/selection.hpp"

namespace gradwire::sparse {

/// The k elements of largest magnitude, ties going to the lower index; fewer where fewer are not zero.
class ExactTopK final : public Selection {
 public:
  explicit ExactTopK(const Density& density) noexcept : density_(density) {}

  [[nodiscard]] std::string spec() const override;
  [[nodiscard]] std::size_t max_entries(std::size_t count) const override { return density_.of(count); }
  std::size_t select(const Choice& choice, const Entries& out) const override;
  [[nodiscard]] double kept(std::size_t count) const override;
  [[nodiscard]] bool takes_largest() const noexcept override { return true; }
  [[nodiscard]] bool fills_frames() const override { return true; }
  [[nodiscard]] std::optional<device::SparseRule> device_rule(std::size_t count, const RandomKey& key) const override;

 private:
  Density density_;
};

/// Elements above a threshold that is guessed from a sample so that some 0.9 k pass. Where more than k do, the k
/// largest of them; where fewer than 0.8 k do, what ExactTopK takes. So 0.8 k to k elements, the largest there are, and
/// ties alone go by index (the published code cuts off the highest indices instead). Small tensors: ExactTopK.
class SampledTopK final : public Selection {
 public:
  explicit SampledTopK(const Density& density) noexcept : density_(density) {}

  [[nodiscard]] std::string spec() const override;
  [[nodiscard]] std::size_t max_entries(std::size_t count) const override { return density_.of(count); }
  std::size_t select(const Choice& choice, const Entries& out) const override;
  [[nodiscard]] double kept(std::size_t count) const override;
  [[nodiscard]] std::optional<device::SparseRule> device_rule(std::size_t count, const RandomKey& key) const override;

 private:
  Density density_;
};

/// Elements of at least some magnitude, however many, but never zeros.
class Threshold final : public Selection {
 public:
  explicit Threshold(float threshold) noexcept : threshold_(threshold) {}

  [[nodiscard]] std::string spec() const override;
  [[nodiscard]] std::size_t max_entries(std::size_t count) const override { return count; }
  std::size_t select(const Choice& choice, const Entries& out) const override;
  [[nodiscard]] double kept(std::size_t) const override { return threshold_ > 0 ? 0 : 1; }

 private:
  float threshold_;
};

}  // namespace gradwire::sparse
