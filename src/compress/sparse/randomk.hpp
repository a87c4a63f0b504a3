#pragma once
#include "compress/sparse/selection.hpp"

namespace gradwire::sparse {

/// One element of each of k strata of equal size (up to one element), uniform in its stratum and independent of the
/// others: places ascend by construction, and a frame carries the seed instead of them. An element is chosen with
/// probability 1/s, s the size of its stratum: floor(d/k) or ceil(d/k).
class RandomK final : public Selection {
 public:
  enum class Scale { none, unbiased };  ///< unbiased: values are multiplied by s
  RandomK(const Density& density, Scale scale) noexcept : density_(density), scale_(scale) {}

  [[nodiscard]] std::string spec() const override;
  [[nodiscard]] std::size_t max_entries(std::size_t count) const override { return density_.of(count); }
  std::size_t select(const Choice& choice, const Entries& out) const override;
  [[nodiscard]] double kept(std::size_t count) const override;
  [[nodiscard]] double error_bound(std::size_t count, const CodingError& coding) const override;
  [[nodiscard]] bool unbiased() const override { return scale_ == Scale::unbiased; }
  [[nodiscard]] std::optional<RandomStream::Keys> seed(const RandomKey& key) const override { return place_keys(key); }

 private:
  Density density_;
  Scale scale_;
};

}  // namespace gradwire::sparse
