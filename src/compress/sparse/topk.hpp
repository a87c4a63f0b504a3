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

 private:
  Density density_;
};

/// What ExactTopK chooses; also where other rules end when their guesses fail.
std::size_t select_largest(const Choice& choice, std::size_t k, const Entries& out);

}  // namespace gradwire::sparse
