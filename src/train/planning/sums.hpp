#pragma once
#include <span>
#include <vector>

#include "plan/table_builder.hpp"
#include "train/planning/layers.hpp"

namespace gradwire {

/// What was measured in one window, as sums over samples: those of several ranks add up number by number.
class WindowSums {
 public:
  /// Of what steps took on this rank.
  struct Steps {
    double busy_us = 0;  ///< in which buckets were in flight
    double wire_bytes = 0;
  };

  explicit WindowSums(std::span<const PlannedLayer> layers);

  /// One sample of a layer, measured with its specs as candidates.
  void add(std::size_t layer, const TableLayer& measured, double ready_us);
  void add(const Steps& steps) noexcept;
  void clear() noexcept;

  /// How many floats they travel as.
  [[nodiscard]] std::size_t floats() const noexcept;
  /// Norms that are not in 1e-15..1e15, and other sums that are too large for f32, are counted (out_of_range()). Errors
  /// and singular values may be as small as they like: what f32 has no squares for counts as 0.
  void pack(std::span<float> out) const noexcept;
  /// Replaces the sums by what ranks' floats added up to.
  void unpack(std::span<const float> in) noexcept;

  [[nodiscard]] bool measured(std::size_t layer) const { return builder_.measured(layer); }
  /// Whether sums were left out.
  [[nodiscard]] bool out_of_range() const noexcept { return out_of_range_ > 0; }
  /// Of the layers that were measured, in their order. Bytes are what the wire carries (PlannedLayer::travel).
  /// `previous_norms`: by layer, 0 where there is none. `sent`: bytes that a rank sends for each byte of a frame.
  [[nodiscard]] Table table(std::span<const double> previous_norms, double sent) const;

 private:
  std::vector<std::vector<double>> travel_;  // by layer and candidate
  TableBuilder builder_;
  std::vector<std::size_t> byte_places_;  // in the builder's sums
  std::vector<std::size_t> norm_places_;
  std::vector<double> ready_us_;
  Steps steps_;
  double out_of_range_ = 0;
};

}  // namespace gradwire
