#include "synthetic_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace gradwire::adaptive {
namespace {

constexpr std::size_t kMostSampled = 16'384;
constexpr const char* kFrames[] = {"q4",          "q2",          "q3",         "q5",         "q6",        "q8",
                                   "topk(0.001)", "topk(0.003)", "topk(0.01)", "topk(0.03)", "topk(0.1)", "none"};
constexpr std::size_t kReference = 0;
constexpr double kHops = 1.75;  // 2 (n - 1) / n between 8 ranks
constexpr std::size_t kRanks[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};

class Drawing {
 public:
  Drawing(std::uint64_t seed, double gbit) : random_(seed), bytes_a_us_(125 * gbit) {}

  TableLayer layer(const Parameter& parameter) {
    TableLayer layer{parameter.name, elements(parameter.shape), kReference, {}, parameter.shape};
    layer.norm = std::exp(normal(1.2));
    layer.previous_norm = layer.norm * std::exp(normal(0.4));
    add_frames(layer);
    add_ranks(layer);
    return layer;
  }

 private:
  /// Microseconds on codec and wire.
  [[nodiscard]] double time_of(double bytes, double elements, double hops) const {
    constexpr double kStart = 20;
    constexpr double kCodec = 0.002;  // an element: 2 GB of f32 a second, both ways together
    return kStart + kCodec * elements + hops * bytes / bytes_a_us_;
  }
  double normal(double deviation) { return std::normal_distribution<double>(0, deviation)(random_); }
  double between(double low, double high) { return std::uniform_real_distribution<double>(low, high)(random_); }

  void add_frames(TableLayer& layer) {
    std::student_t_distribution<double> elements(between(2.5, 8));
    std::vector<float> sample(std::min<std::size_t>(layer.count, kMostSampled));
    for (float& element : sample) element = static_cast<float>(elements(random_));
    const std::vector<std::string> specs(std::begin(kFrames), std::end(kFrames));
    const TableLayer measured =
        measure_layer({layer.name, ConstTensor(sample.data(), sample.size())}, specs, kReference);
    const auto count = static_cast<double>(layer.count);
    for (const Candidate& candidate : measured.candidates) {
      const Compressor compressor = make_compressor(candidate.spec);
      const bool exact = compressor.traits().fixed_size;
      const double scaled = static_cast<double>(candidate.bytes) * count / static_cast<double>(sample.size());
      const std::uint64_t bytes =
          exact ? compressor.max_frame_size(layer.count, DType::f32) : static_cast<std::uint64_t>(std::ceil(scaled));
      const double hops = compressor.sparsifier() != nullptr ? 1.5 * kHops : kHops;
      layer.candidates.push_back({candidate.spec, bytes, candidate.error * layer.norm / measured.norm,
                                  time_of(static_cast<double>(bytes), count, hops)});
    }
  }

  void add_ranks(TableLayer& layer) {
    const MatrixView view = matrix_view(layer.shape);
    const double power = between(0.3, 1.2);
    std::vector<double> tails(std::min(view.rows, view.cols) + 1, 0);  // sums of squares from each value on
    for (std::size_t k = tails.size() - 1; k-- > 0;)
      tails[k] = tails[k + 1] + std::pow(static_cast<double>(k + 1), -2 * power);
    for (std::size_t k = 0; k + 1 < tails.size(); ++k)
      layer.singular_values.push_back(layer.norm * std::pow(static_cast<double>(k + 1), -power) / std::sqrt(tails[0]));
    const Compressor factors = make_compressor("none");
    for (const std::size_t rank : kRanks) {
      const std::string spec = fmt::format("powersgd(rank={})", rank);
      const Compressor compressor = make_compressor(spec);
      if (!compressor.low_rank()->pays(view)) break;
      const std::uint64_t bytes =
          factors.max_frame_size(view.rows * rank, DType::f32) + factors.max_frame_size(view.cols * rank, DType::f32);
      const double error = layer.norm * std::sqrt(tails[compressor.low_rank()->rank_for(view)] / tails[0]);
      const double work = static_cast<double>(layer.count) * (1 + static_cast<double>(rank) / 16);
      layer.candidates.push_back({spec, bytes, error, time_of(static_cast<double>(bytes), work, kHops)});
    }
  }

  std::mt19937_64 random_;
  double bytes_a_us_;
};

}  // namespace

Table synthetic_table(const Model& model, std::uint64_t seed, double gbit) {
  Drawing drawing(seed, gbit);
  double work = 0;
  for (const Parameter& parameter : model.parameters)
    work += static_cast<double>(elements(parameter.shape)) * parameter.positions;
  Table table;
  double behind = work;  // of this parameter and all behind it, which backward does first
  for (const Parameter& parameter : model.parameters) {
    if (parameter.shape.size() > 1) {
      table.layers.push_back(drawing.layer(parameter));
      table.layers.back().ready_us = model.backward_us * behind / work;
    }
    behind -= static_cast<double>(elements(parameter.shape)) * parameter.positions;
  }
  check(table);
  return table;
}

}  // namespace gradwire::adaptive
