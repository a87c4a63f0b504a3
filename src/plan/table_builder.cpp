#include "plan/table_builder.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/fail.hpp"
#include "plan/sample.hpp"

namespace gradwire {
namespace {

/// Places of a layer's sums.
constexpr std::size_t kSamples = 0;
constexpr std::size_t kNorm = 1;
constexpr std::size_t kCandidates = 2;

}  // namespace

std::size_t TableBuilder::add_layer(Layer layer) {
  const std::size_t size = kCandidates + 2 * layer.specs.size() + most_rank(layer.specs, matrix_view(layer.shape));
  sums_.resize(sums_.size() + size);
  firsts_.push_back(sums_.size());
  layers_.push_back(std::move(layer));
  return layers_.size() - 1;
}

void TableBuilder::add(std::size_t index, const TableLayer& measured) {
  const Layer& layer = layers_.at(index);
  const bool same =
      std::equal(layer.specs.begin(), layer.specs.end(), measured.candidates.begin(), measured.candidates.end(),
                 [](const std::string& spec, const Candidate& candidate) { return spec == candidate.spec; });
  require(same && layer.name == measured.name && layer.count == measured.count && layer.shape == measured.shape,
          "layer \"{}\": what was measured is another layer (\"{}\", {} elements), or of another shape or candidates",
          layer.name, measured.name, measured.count);
  const std::size_t values = firsts_[index + 1] - firsts_[index] - kCandidates - 2 * layer.specs.size();
  require(measured.singular_values.size() == values, "layer \"{}\": {} singular values, where its candidates give {}",
          layer.name, measured.singular_values.size(), values);
  double* sum = sums_.data() + firsts_[index];
  sum[kSamples] += 1;
  sum[kNorm] += measured.norm * measured.norm;
  sum += kCandidates;
  for (const Candidate& candidate : measured.candidates) {
    *sum++ += candidate.error * candidate.error;
    *sum++ += static_cast<double>(candidate.bytes);
  }
  for (const double value : measured.singular_values) *sum++ += value * value;
}

std::vector<std::size_t> TableBuilder::byte_places() const {
  std::vector<std::size_t> places;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    for (std::size_t c = 0; c < layers_[l].specs.size(); ++c) places.push_back(firsts_[l] + kCandidates + 2 * c + 1);
  }
  return places;
}

std::vector<std::size_t> TableBuilder::norm_places() const {
  std::vector<std::size_t> places;
  for (std::size_t l = 0; l < layers_.size(); ++l) places.push_back(firsts_[l] + kNorm);
  return places;
}

Table TableBuilder::table() const {
  Table table;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    if (!measured(l)) continue;
    const Layer& layer = layers_[l];
    const double* sum = sums_.data() + firsts_[l];
    const double* const end = sums_.data() + firsts_[l + 1];
    const double samples = sum[kSamples];
    const auto mean_root = [samples](double squares) { return std::sqrt(squares / samples); };
    TableLayer& made = table.layers.emplace_back(TableLayer{layer.name, layer.count, layer.reference, {}, layer.shape});
    made.norm = mean_root(sum[kNorm]);
    sum += kCandidates;
    for (const std::string& spec : layer.specs) {
      const double error = mean_root(*sum++);
      made.candidates.push_back({spec, static_cast<std::uint64_t>(std::llround(*sum++ / samples)), error});
    }
    for (; sum != end; ++sum) made.singular_values.push_back(mean_root(*sum));
    // Sums that were rounded on the way may turn round neighbours that are as good as equal.
    std::sort(made.singular_values.rbegin(), made.singular_values.rend());
  }
  check(table);
  return table;
}

}  // namespace gradwire
