#pragma once
#include <span>
#include <string>
#include <vector>

#include "train/planning/layers.hpp"

#include "gradwire/plan.hpp"

namespace gradwire {

/// What was measured of the layers in one window, as sums over samples: those of several ranks add up number by number.
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
  [[nodiscard]] std::size_t floats() const noexcept { return floats_; }
  /// Sums beyond what f32 adds up are left out, and counted.
  void pack(std::span<float> out) const noexcept;
  /// Replaces the sums by what ranks' floats added up to.
  void unpack(std::span<const float> in) noexcept;

  [[nodiscard]] bool measured(std::size_t layer) const noexcept { return layers_[layer].samples > 0; }
  /// Whether sums were left out.
  [[nodiscard]] bool out_of_range() const noexcept { return out_of_range_ > 0; }
  /// Of the layers that were measured, in their order: means over samples, of squares for norms and errors.
  /// `previous_norms`: by layer, 0 where there is none. `sent`: bytes that a rank sends for each byte of a frame.
  [[nodiscard]] Table table(std::span<const double> previous_norms, double sent) const;

 private:
  struct Layer {
    double samples = 0;
    double norm_squared = 0;
    double ready_us = 0;
    std::vector<double> squared_errors{};  // by candidate
    std::vector<double> bytes{};           // likewise
    std::vector<double> singular_squares{};
  };
  /// Calls f(value) for each sum but those of bytes, in one order.
  template <class Self, class F>
  static void for_each(Self& self, F&& f);

  std::vector<PlannedLayer> described_;
  std::vector<Layer> layers_;
  Steps steps_;
  double out_of_range_ = 0;
  std::size_t floats_ = 0;
};

}  // namespace gradwire
