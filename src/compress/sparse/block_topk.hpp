#pragma once
#include "compress/sparse/selection.hpp"

namespace gradwire::sparse {

/// Whole blocks of elements: those of largest norm, ties going to the lower index, none that are zero.
class BlockTopK final : public Selection {
 public:
  enum class Norm { l2, linf };
  BlockTopK(const Density& density, std::size_t block, Norm norm) noexcept
      : density_(density), block_(block), norm_(norm) {}

  [[nodiscard]] std::string spec() const override;
  [[nodiscard]] std::size_t max_entries(std::size_t count) const override;
  std::size_t select(const Choice& choice, const Entries& out) const override;
  [[nodiscard]] double kept(std::size_t count) const override;
  [[nodiscard]] std::size_t block() const override { return block_; }
  [[nodiscard]] bool fills_frames() const override { return true; }
  [[nodiscard]] std::optional<device::SparseRule> device_rule(std::size_t count, const RandomKey&) const override;

 private:
  [[nodiscard]] std::size_t blocks(std::size_t count) const noexcept { return (count + block_ - 1) / block_; }
  [[nodiscard]] const std::uint32_t* norms(const Choice& choice) const;
  std::size_t expand(const ConstTensor& x, std::size_t chosen, const Entries& out) const;

  Density density_;
  std::size_t block_;
  Norm norm_;
};

}  // namespace gradwire::sparse
