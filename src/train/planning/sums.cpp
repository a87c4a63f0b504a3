#include "train/planning/sums.hpp"

#include <algorithm>
#include <cmath>

#include "gradwire/compressor.hpp"

namespace gradwire {
namespace {

// Squares in between add up as f32 over as many ranks as there can be; 0 does anyway.
constexpr double kLeastSum = 1e-30;
constexpr double kMaxSum = 1e30;

/// Bytes travel as two floats that are whole numbers, and stay so when ranks add them: 4096 * high + low.
constexpr double kLowBytes = 4096;

/// The most singular values that the layer's candidates make measure_layer() find.
std::size_t most_singular_values(const PlannedLayer& layer) {
  std::size_t most = 0;
  for (const std::string& spec : layer.specs) {
    const Compressor compressor = make_compressor(spec);
    if (compressor.low_rank() == nullptr) continue;
    most = std::max(most, compressor.low_rank()->rank_for(matrix_view(layer.shape)));
  }
  return most;
}

}  // namespace

template <class Self, class F>
void WindowSums::for_each(Self& self, F&& f) {
  f(self.steps_.busy_us);
  f(self.steps_.wire_bytes);
  for (auto& layer : self.layers_) {
    f(layer.samples);
    f(layer.norm_squared);
    f(layer.ready_us);
    for (auto& value : layer.squared_errors) f(value);
    for (auto& value : layer.singular_squares) f(value);
  }
}

WindowSums::WindowSums(std::span<const PlannedLayer> layers) : described_(layers.begin(), layers.end()) {
  for (const PlannedLayer& layer : described_) {
    const std::size_t candidates = layer.specs.size();
    layers_.push_back({.squared_errors = std::vector<double>(candidates),
                       .bytes = std::vector<double>(candidates),
                       .singular_squares = std::vector<double>(most_singular_values(layer))});
    floats_ += 2 * candidates;
  }
  for_each(*this, [this](double) { ++floats_; });
  ++floats_;  // out_of_range_
}

void WindowSums::add(std::size_t layer, const TableLayer& measured, double ready_us) {
  Layer& sums = layers_[layer];
  sums.samples += 1;
  sums.norm_squared += measured.norm * measured.norm;
  sums.ready_us += ready_us;
  for (std::size_t c = 0; c < sums.bytes.size(); ++c) {
    const Candidate& candidate = measured.candidates[c];
    sums.squared_errors[c] += candidate.error * candidate.error;
    sums.bytes[c] += static_cast<double>(candidate.bytes);
  }
  const std::size_t singular = std::min(sums.singular_squares.size(), measured.singular_values.size());
  for (std::size_t j = 0; j < singular; ++j)
    sums.singular_squares[j] += measured.singular_values[j] * measured.singular_values[j];
}

void WindowSums::add(const Steps& steps) noexcept {
  steps_.busy_us += steps.busy_us;
  steps_.wire_bytes += steps.wire_bytes;
}

void WindowSums::clear() noexcept {
  for_each(*this, [](double& value) { value = 0; });
  out_of_range_ = 0;
  for (Layer& layer : layers_) std::fill(layer.bytes.begin(), layer.bytes.end(), 0.0);
}

void WindowSums::pack(std::span<float> out) const noexcept {
  std::size_t place = 0;
  float out_of_range = 0;
  for_each(*this, [&](double value) {
    const bool fits = value == 0 || (value >= kLeastSum && value <= kMaxSum);
    if (!fits) ++out_of_range;
    out[place++] = fits ? static_cast<float>(value) : 0.0F;
  });
  out[place++] = out_of_range;
  for (const Layer& layer : layers_) {
    for (const double bytes : layer.bytes) {
      const double high = std::floor(bytes / kLowBytes);
      out[place++] = static_cast<float>(high);
      out[place++] = static_cast<float>(bytes - high * kLowBytes);
    }
  }
}

void WindowSums::unpack(std::span<const float> in) noexcept {
  std::size_t place = 0;
  for_each(*this, [&](double& value) { value = static_cast<double>(in[place++]); });
  out_of_range_ = static_cast<double>(in[place++]);
  for (Layer& layer : layers_) {
    for (double& bytes : layer.bytes) {
      bytes = kLowBytes * static_cast<double>(in[place]) + static_cast<double>(in[place + 1]);
      place += 2;
    }
  }
}

Table WindowSums::table(std::span<const double> previous_norms, double sent) const {
  const double us_per_byte = steps_.wire_bytes > 0 ? sent * steps_.busy_us / steps_.wire_bytes : 0;
  Table table;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const PlannedLayer& described = described_[l];
    const Layer& sums = layers_[l];
    if (sums.samples == 0) continue;
    const auto root = [&](double squares) { return std::sqrt(squares / sums.samples); };
    TableLayer layer{
        .name = described.name, .count = described.count, .reference = described.reference, .candidates = {}};
    layer.shape = described.shape;
    layer.norm = root(sums.norm_squared);
    layer.previous_norm = previous_norms[l];
    layer.ready_us = sums.ready_us / sums.samples;
    for (const double squares : sums.singular_squares) layer.singular_values.push_back(root(squares));
    // Rounding may turn round neighbours that are as good as equal.
    std::sort(layer.singular_values.rbegin(), layer.singular_values.rend());
    for (std::size_t c = 0; c < described.specs.size(); ++c) {
      const double bytes = std::round(sums.bytes[c] / sums.samples * described.travel[c]);
      layer.candidates.push_back(
          {described.specs[c], static_cast<std::uint64_t>(bytes), root(sums.squared_errors[c]), bytes * us_per_byte});
    }
    table.layers.push_back(std::move(layer));
  }
  return table;
}

}  // namespace gradwire
