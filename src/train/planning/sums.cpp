#include "train/planning/sums.hpp"

#include <algorithm>
#include <cmath>

namespace gradwire {
namespace {

// Sums of squares in this range stay finite and normal in f32 over all ranks. Errors and singular values below it are
// the rounding noise of a norm that is above kLeastSquaredNorm, and count as 0.
constexpr double kLeastSquaredNorm = 1e-30;
constexpr double kLeastSum = 1e-37;
constexpr double kMaxSum = 1e30;

/// Bytes travel as two floats that are whole numbers, 4096 * high + low: exact over 4096 ranks, rounded beyond.
constexpr double kLowBytes = 4096;

constexpr std::size_t kOther = 3;  // times, bytes, sums left out

}  // namespace

WindowSums::WindowSums(std::span<const PlannedLayer> layers) : ready_us_(layers.size()) {
  for (const PlannedLayer& layer : layers) {
    travel_.push_back(layer.travel);
    builder_.add_layer({layer.name, layer.count, layer.shape, layer.reference, layer.specs});
  }
  byte_places_ = builder_.byte_places();
  norm_places_ = builder_.norm_places();
}

void WindowSums::add(std::size_t layer, const TableLayer& measured, double ready_us) {
  builder_.add(layer, measured);
  ready_us_[layer] += ready_us;
}

void WindowSums::add(const Steps& steps) noexcept {
  steps_.busy_us += steps.busy_us;
  steps_.wire_bytes += steps.wire_bytes;
}

void WindowSums::clear() noexcept {
  std::fill(builder_.sums().begin(), builder_.sums().end(), 0.0);
  std::fill(ready_us_.begin(), ready_us_.end(), 0.0);
  steps_ = {};
  out_of_range_ = 0;
}

std::size_t WindowSums::floats() const noexcept {
  return builder_.sums().size() + byte_places_.size() + ready_us_.size() + kOther;
}

void WindowSums::pack(std::span<float> out) const noexcept {
  const std::vector<double>& sums = builder_.sums();
  float out_of_range = 0;
  const auto as_float = [&](double value) {
    if (value <= kMaxSum) return value < kLeastSum ? 0.0F : static_cast<float>(value);
    ++out_of_range;
    return 0.0F;
  };
  for (const std::size_t norm : norm_places_)
    out_of_range += sums[norm] > 0 && sums[norm] < kLeastSquaredNorm ? 1.0F : 0.0F;
  std::size_t place = 0;
  for (const double value : sums) out[place++] = as_float(value);
  for (const std::size_t bytes : byte_places_) {
    const double high = std::floor(sums[bytes] / kLowBytes);
    out[bytes] = static_cast<float>(high);
    out[place++] = static_cast<float>(sums[bytes] - high * kLowBytes);
  }
  for (const double value : ready_us_) out[place++] = as_float(value);
  out[place++] = as_float(steps_.busy_us);
  out[place++] = as_float(steps_.wire_bytes);
  out[place++] = out_of_range;
}

void WindowSums::unpack(std::span<const float> in) noexcept {
  std::vector<double>& sums = builder_.sums();
  std::size_t place = 0;
  const auto next = [&] { return static_cast<double>(in[place++]); };
  for (double& value : sums) value = next();
  for (const std::size_t bytes : byte_places_) sums[bytes] = sums[bytes] * kLowBytes + next();
  for (double& value : ready_us_) value = next();
  steps_.busy_us = next();
  steps_.wire_bytes = next();
  out_of_range_ = next();
}

Table WindowSums::table(std::span<const double> previous_norms, double sent) const {
  const double us_per_byte = steps_.wire_bytes > 0 ? sent * steps_.busy_us / steps_.wire_bytes : 0;
  Table table = builder_.table();
  auto layer = table.layers.begin();
  for (std::size_t l = 0; l < travel_.size(); ++l) {
    if (!measured(l)) continue;
    layer->previous_norm = previous_norms[l];
    layer->ready_us = ready_us_[l] / builder_.samples(l);
    for (std::size_t c = 0; c < layer->candidates.size(); ++c) {
      Candidate& candidate = layer->candidates[c];
      candidate.bytes = static_cast<std::uint64_t>(std::llround(static_cast<double>(candidate.bytes) * travel_[l][c]));
      candidate.us = static_cast<double>(candidate.bytes) * us_per_byte;
    }
    ++layer;
  }
  return table;
}

}  // namespace gradwire
