// What candidates cost and lose, on one tensor: densities from one selection, ranks from one spectrum, numbers of bits
// of `quantize` from one pass, everything else by encoding it.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "base/fail.hpp"
#include "compress/quantize.hpp"
#include "compress/vector_ops.hpp"
#include "plan/sample.hpp"
#include "plan/spectrum.hpp"

#include "gradwire/buffer.hpp"
#include "gradwire/plan.hpp"

namespace gradwire {
namespace {

/// Chosen elements, largest first, ties to the lower place.
struct Ranking {
  std::vector<std::uint32_t> places;
  std::vector<float> values;
};

class Measurement {
 public:
  Measurement(ConstTensor x, std::span<const std::size_t> shape, const RandomKey& key)
      : x_(x), view_(matrix_view(shape)), key_(key) {}

  void add(const std::string& spec) {
    const Compressor compressor = compressor_for(spec, view_);
    const std::size_t place = candidates_.size();
    candidates_.push_back({spec, 0, 0});
    if (compressor.low_rank() != nullptr) {
      low_ranks_.emplace_back(place, compressor);
    } else if (compressor.sparsifier() != nullptr && compressor.sparsifier()->takes_largest()) {
      most_entries_ = std::max(most_entries_, compressor.sparsifier()->max_entries(x_.count));
      sparse_.emplace_back(place, compressor);
    } else if (const auto params = uniform_params(compressor); params && has_quantize_errors(*params)) {
      Widths& widths = quantised_[{params->bucket, params->norm}];
      widths.params = *params;
      widths.places[params->bits].push_back(place);
      candidates_[place].bytes = compressor.max_frame_size(x_.count, DType::f32);  // of all its frames
    } else {
      encoded_.emplace_back(place, compressor);
    }
  }

  /// What was measured, as parts of the layer. `most_rank`: of what was added.
  void finish(TableLayer& layer, std::size_t most_rank) {
    if (!low_ranks_.empty()) project(layer, most_rank);
    if (!sparse_.empty()) select();
    for (const auto& [buckets, widths] : quantised_) quantise(widths);
    for (const auto& [place, compressor] : encoded_) encode(candidates_[place], compressor);
    layer.candidates = std::move(candidates_);
    layer.norm = std::sqrt(norm_squared());
    if (!std::isfinite(layer.norm)) fail(Errc::non_finite, "NaN or Inf");  // candidates like none take such values
  }

 private:
  using Group = std::vector<std::pair<std::size_t, Compressor>>;
  /// Candidates that differ in their bits only.
  struct Widths {
    QuantizeParams params;
    std::map<std::uint32_t, std::vector<std::size_t>> places;  ///< by bits: texts of one meaning may differ
  };

  [[nodiscard]] double norm_squared() const { return ops::sum_squares(floats(), x_.count); }
  [[nodiscard]] const float* floats() const { return static_cast<const float*>(x_.data); }
  static void set(Candidate& candidate, std::size_t bytes, double squared_error) {
    candidate.bytes = bytes;
    candidate.error = std::sqrt(std::max(squared_error, 0.0));
  }

  void encode(Candidate& candidate, const Compressor& compressor) const {
    Buffer frame(compressor.max_frame_size(x_.count, DType::f32));
    std::vector<float> lost(x_.count);
    const std::size_t bytes = compressor.encode(x_, frame.bytes(), {lost.data(), lost.size()}, key_);
    set(candidate, bytes, ops::sum_squares(lost.data(), lost.size()));
  }

  void quantise(const Widths& widths) {
    std::vector<std::uint32_t> bits;
    for (const auto& [each, places] : widths.places) bits.push_back(each);
    const std::vector<double> squares = quantize_errors(x_, widths.params, bits);
    auto square = squares.begin();
    for (const auto& [each, places] : widths.places) {
      for (const std::size_t place : places) set(candidates_[place], candidates_[place].bytes, *square);
      ++square;
    }
  }

  /// The best approximation of each rank, which power iterations with a warm start come close to.
  void project(TableLayer& layer, std::size_t most_rank) {
    if (!ops::all_finite(x_)) fail(Errc::non_finite, "NaN or Inf");
    const std::vector<double> squares = largest_singular_squares(floats(), view_, most_rank, key_);
    for (const double square : squares) layer.singular_values.push_back(std::sqrt(square));
    const double all = norm_squared();
    for (const auto& [place, compressor] : low_ranks_) {
      const LowRank& scheme = *compressor.low_rank();
      const auto rank = static_cast<std::ptrdiff_t>(scheme.rank_for(view_));
      const double kept = std::accumulate(squares.begin(), squares.begin() + rank, 0.0);
      set(candidates_[place], low_rank_bytes(scheme, view_), all - kept);
    }
  }

  [[nodiscard]] Ranking rank_largest() const {
    Ranking largest{std::vector<std::uint32_t>(most_entries_), std::vector<float>(most_entries_)};
    const Entries chosen = ops::select_largest(x_, {largest.places.data(), largest.values.data(), most_entries_});
    std::vector<std::uint32_t> order(chosen.count);
    std::iota(order.begin(), order.end(), 0U);
    std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      return std::fabs(chosen.value[a]) > std::fabs(chosen.value[b]);
    });
    Ranking ranked;
    for (const std::uint32_t i : order) {
      ranked.places.push_back(chosen.index[i]);
      ranked.values.push_back(chosen.value[i]);
    }
    return ranked;
  }

  void select() {
    const Ranking ranked = rank_largest();
    const double all = norm_squared();
    for (const auto& [place, compressor] : sparse_) {
      const Sparsifier& sparsifier = *compressor.sparsifier();
      const std::size_t count = std::min(sparsifier.max_entries(x_.count), ranked.places.size());
      std::vector<std::uint32_t> places(ranked.places.begin(),
                                        ranked.places.begin() + static_cast<std::ptrdiff_t>(count));
      std::sort(places.begin(), places.end());
      std::vector<float> values;
      for (const std::uint32_t i : places) values.push_back(floats()[i]);
      Buffer frame(sparsifier.max_frame_size(x_.count, count));
      const double kept = ops::sum_squares(values.data(), count);
      const std::size_t bytes =
          sparsifier.encode_entries({places.data(), values.data(), count}, x_.count, frame.bytes(), key_);
      double coded = 0;  // what the values' own coding loses
      for (std::size_t e = 0; e < count; ++e) {
        const double off = static_cast<double>(floats()[places[e]]) - static_cast<double>(values[e]);
        coded += off * off;
      }
      set(candidates_[place], bytes, count == x_.count ? coded : all - kept + coded);
    }
  }

  ConstTensor x_;
  MatrixView view_;
  RandomKey key_;
  std::vector<Candidate> candidates_;
  Group low_ranks_;
  Group sparse_;
  std::map<std::pair<std::uint32_t, Norm>, Widths> quantised_;
  Group encoded_;
  std::size_t most_entries_ = 0;
};

}  // namespace

std::uint64_t elements_of(std::span<const std::size_t> shape) noexcept {
  std::uint64_t count = 1;
  for (const std::size_t extent : shape)
    if (__builtin_mul_overflow(count, std::uint64_t{extent}, &count)) return 0;
  return count;
}

Compressor compressor_for(const std::string& spec, MatrixView view) {
  Compressor compressor = make_compressor(spec);
  const LowRank* const low_rank = compressor.low_rank();
  return low_rank != nullptr && !low_rank->pays(view) ? make_compressor(low_rank->fallback) : compressor;
}

std::size_t low_rank_bytes(const LowRank& scheme, MatrixView view) {
  const Compressor factors = make_compressor(scheme.factors);
  const std::size_t rank = scheme.rank_for(view);
  const std::size_t left = factors.max_frame_size(view.rows * rank, DType::f32);
  const std::size_t right = factors.max_frame_size(view.cols * rank, DType::f32);
  if (scheme.kind == LowRank::Kind::projection) return std::min(left, right);
  return scheme.rounds == 1 ? (left + right) / 2 : left + right;
}

std::size_t most_rank(std::span<const std::string> specs, MatrixView view) {
  std::size_t most = 0;
  for (const std::string& spec : specs) {
    const Compressor compressor = make_compressor(spec);
    const LowRank* const low_rank = compressor.low_rank();
    if (low_rank != nullptr && low_rank->pays(view)) most = std::max(most, low_rank->rank_for(view));
  }
  return most;
}

void check(const LayerSample& sample) {
  const ConstTensor& x = sample.values;
  const std::uint64_t shaped = elements_of(sample.shape);
  require(x.dtype == DType::f32 && x.space == Space::host && x.count > 0 && x.data != nullptr,
          "layer '{}': measured are f32 values in host memory, given {}[{}]", sample.name, name(x.dtype), x.count);
  require(sample.shape.empty() || shaped == x.count, "layer '{}': its shape has {} elements, not {}", sample.name,
          shaped, x.count);
}

TableLayer measure_layer(const LayerSample& sample, std::span<const std::string> specs, std::size_t reference) {
  const ConstTensor& x = sample.values;
  check(sample);
  require(reference < specs.size(), "layer '{}': reference {} of {} candidates", sample.name, reference, specs.size());
  Measurement measurement(x, sample.shape, sample.key);
  try {
    for (const std::string& spec : specs) measurement.add(spec);
    TableLayer layer{sample.name, x.count, reference, {}, sample.shape};
    measurement.finish(layer, most_rank(specs, matrix_view(sample.shape)));
    check(Table{{layer}});
    return layer;
  } catch (const Error& error) {
    fail(error.code(), "layer '{}': {}", sample.name, error.what());
  }
}

}  // namespace gradwire
