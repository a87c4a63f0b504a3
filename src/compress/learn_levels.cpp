#include "compress/learn_levels.hpp"

#include <algorithm>
#include <cmath>

#include "base/half.hpp"
#include "compress/quantize_params.hpp"

namespace gradwire {
namespace {

/// Normalised magnitudes of the sample. A bin knows how much squared error its elements are worth and their sum, so
/// centroids of whole bins are exact; prefix sums make an iteration of Lloyd's as cheap as there are levels.
class Histogram {
 public:
  static constexpr std::size_t kBins = 512;

  void add_bucket(ConstTensor x) {
    float s = 0;
    bool finite = true;
    for (std::size_t i = 0; i < x.count; ++i) {
      const float v = std::fabs(load_f32(x.data, x.dtype, i));
      finite = finite && std::isfinite(v);
      s = std::max(s, v);
    }
    if (!finite || s > 0x1p126f || s < flat_below(Norm::linf)) return;
    const float inv = 1.0f / s;
    const double weight = static_cast<double>(s) * static_cast<double>(s);
    for (std::size_t i = 0; i < x.count; ++i) {
      const float v = std::fabs(load_f32(x.data, x.dtype, i)) * inv;
      const std::size_t bin = std::min(static_cast<std::size_t>(v * kBins), kBins - 1);
      weights_[bin + 1] += weight;
      moments_[bin + 1] += weight * static_cast<double>(v);
    }
  }

  /// After the last bucket.
  void finish() {
    for (std::size_t i = 1; i <= kBins; ++i) {
      weights_[i] += weights_[i - 1];
      moments_[i] += moments_[i - 1];
    }
  }

  [[nodiscard]] double weight(std::size_t first, std::size_t end) const { return weights_[end] - weights_[first]; }
  [[nodiscard]] double moment(std::size_t first, std::size_t end) const { return moments_[end] - moments_[first]; }
  [[nodiscard]] double total() const { return weights_[kBins]; }

 private:
  std::array<double, kBins + 1> weights_{};  ///< of all bins before
  std::array<double, kBins + 1> moments_{};
};

constexpr std::size_t kBins = Histogram::kBins;
constexpr std::size_t kMostLevels = 7;  ///< beside 0, on one side

/// Magnitudes of levels: number 0 is 0 and stays.
using Magnitudes = std::array<double, kMostLevels + 1>;

/// The best levels are as dense as the cube root of the density, when there are many (Panter and Dite). Its fourth root
/// starts as well, and is the same on all machines.
Magnitudes first_levels(const Histogram& histogram, std::size_t top) {
  std::array<double, kBins + 1> sums{};
  for (std::size_t i = 0; i < kBins; ++i) sums[i + 1] = sums[i] + std::sqrt(std::sqrt(histogram.weight(i, i + 1)));
  Magnitudes levels{};
  std::size_t bin = 0;
  for (std::size_t k = 1; k <= top; ++k) {
    const double place = static_cast<double>(k) / (static_cast<double>(top) + 0.5);  // the cell of 0 has one half here
    while (bin + 1 < kBins && sums[bin + 1] < place * sums[kBins]) ++bin;
    levels[k] = (static_cast<double>(bin) + 0.5) / kBins;
  }
  return levels;
}

/// Cells end half-way between levels, levels move to the centroids of their cells, until cells stay.
void iterate(const Histogram& histogram, std::size_t top, Magnitudes& levels) {
  constexpr int kMostIterations = 40;
  std::array<std::size_t, kMostLevels + 2> cells{};
  cells[top + 1] = kBins;
  for (int iteration = 0; iteration < kMostIterations; ++iteration) {
    const auto before = cells;
    for (std::size_t k = 1; k <= top; ++k)
      cells[k] = static_cast<std::size_t>((levels[k - 1] + levels[k]) * 0.5 * kBins + 0.5);
    if (cells == before) return;
    for (std::size_t k = 1; k <= top; ++k) {
      const double weight = histogram.weight(cells[k], cells[k + 1]);
      // Differences of sums this small are their rounding errors.
      if (weight > 1e-12 * histogram.total()) levels[k] = histogram.moment(cells[k], cells[k + 1]) / weight;
    }
  }
}

/// As f32, in order and apart. Levels whose cells are empty stayed behind when others moved.
Codebook codebook_from(Magnitudes levels, std::size_t top) {
  constexpr float kApart = 0x1p-12f;
  for (std::size_t k = 1; k <= top; ++k) levels[k] = std::max(levels[k], levels[k - 1]);
  std::array<float, kMostLevels + 1> c{};
  for (std::size_t k = 1; k <= top; ++k)
    c[k] = std::clamp(static_cast<float>(levels[k]), static_cast<float>(k) * kApart, 1.0f);
  c[top] = std::max(c[top], kLeastOutermost);
  for (std::size_t k = top - 1; k >= 1; --k) c[k] = std::min(c[k], c[k + 1] - kApart);
  Codebook codebook{};
  for (std::size_t k = 1; k <= top; ++k) {
    codebook[top + k] = c[k];
    codebook[top - k] = -c[k];
  }
  return codebook;
}

}  // namespace

Codebook learn_levels(ConstTensor x, const LearnOptions& options) {
  const std::size_t top = (std::size_t{1} << (options.bits - 1)) - 1;
  const std::size_t buckets = (x.count + options.bucket - 1) / options.bucket;
  const std::size_t taken = std::min<std::size_t>(buckets, (options.sample + options.bucket - 1) / options.bucket);
  Histogram histogram;
  for (std::size_t i = 0; i < taken; ++i) {
    const std::size_t first = i * buckets / taken * options.bucket;
    histogram.add_bucket(x.slice(first, std::min<std::size_t>(options.bucket, x.count - first)));
  }
  histogram.finish();
  Magnitudes levels{};
  if (histogram.total() > 0) {
    levels = first_levels(histogram, top);
    iterate(histogram, top, levels);
  } else {
    for (std::size_t k = 1; k <= top; ++k) levels[k] = static_cast<double>(k) / static_cast<double>(top);
  }
  return codebook_from(levels, top);
}

}  // namespace gradwire
