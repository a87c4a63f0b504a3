// What others do, for comparison: global top-k, CGX's two rules for bits (adjuster.py of its deep learning examples),
// and LEGACY's rule by size, as far as they are published.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "base/fail.hpp"
#include "compress/quantize.hpp"
#include "plan/knapsack.hpp"
#include "plan/policy.hpp"
#include "plan/table.hpp"

namespace gradwire {
namespace {

constexpr std::uint32_t kMostBits = 8;

/// Of "q4", "q4(bucket=64)" and "quantize(bits=4,...)".
std::optional<std::uint32_t> bits_of(std::string_view spec) {
  const std::optional<Compressor> compressor = find_compressor(spec);
  return compressor ? quantize_bits(*compressor) : std::nullopt;
}

/// The candidate with these bits, or the next more that there are, or the most. The reference where none has bits.
std::size_t with_bits(const TableLayer& layer, std::uint32_t wanted) {
  std::optional<std::size_t> best;
  std::uint32_t best_bits = 0;
  for (std::size_t c = 0; c < layer.candidates.size(); ++c) {
    const std::optional<std::uint32_t> bits = bits_of(layer.candidates[c].spec);
    if (!bits) continue;
    const bool closer = best_bits < wanted ? *bits > best_bits : *bits >= wanted && *bits < best_bits;
    if (best && !closer) continue;
    best = c;
    best_bits = *bits;
  }
  return best.value_or(layer.reference);
}

struct Bits {
  std::uint32_t low;
  std::uint32_t high;
};

/// A rule for bits has something to choose in one layer at least.
void require_bits(const Table& table, const std::string& policy) {
  for (const TableLayer& layer : table.layers) {
    for (const Candidate& candidate : layer.candidates) {
      if (bits_of(candidate.spec)) return;
    }
  }
  fail(Errc::invalid_argument, "policy \"{}\": no layer has a candidate like q4 or quantize(bits=4)", policy);
}

Bits read_bits(const Spec& spec) {
  OptionReader options(spec);
  const Bits bits{options.number("low", 2, 1, kMostBits), options.number("high", kMostBits, 1, kMostBits)};
  options.finish();
  require(bits.low <= bits.high, "policy \"{}\": low is {}, above high, {}", spec.text, bits.low, bits.high);
  return bits;
}

double reference_error(const TableLayer& layer) { return layer.candidates[layer.reference].error; }

/// ceil(high + log2(error / largest error)), at least low, without the rounding of a logarithm.
Solver make_cgx_linear(const Spec& spec) {
  const Bits range = read_bits(spec);
  return [range, policy = std::string(spec.text)](const Table& table) {
    require_bits(table, policy);
    double largest = 0;
    for (const TableLayer& layer : table.layers) largest = std::max(largest, reference_error(layer));
    Solution solution;
    for (const TableLayer& layer : table.layers) {
      std::uint32_t bits = range.low;
      while (bits < range.high &&
             std::ldexp(largest, static_cast<int>(bits) - static_cast<int>(range.high)) < reference_error(layer)) {
        ++bits;
      }
      solution.choice.push_back(with_bits(layer, bits));
    }
    return solution;
  };
}

struct Point {
  double size;
  double error;
};

/// Divides each coordinate by its standard deviation.
void whiten(std::vector<Point>& points) {
  for (double Point::*part : {&Point::size, &Point::error}) {
    const auto n = static_cast<double>(points.size());
    double mean = 0;
    for (const Point& point : points) mean += point.*part / n;
    double variance = 0;
    for (const Point& point : points) variance += (point.*part - mean) * (point.*part - mean) / n;
    if (variance <= 0) continue;
    const double deviation = std::sqrt(variance);
    for (Point& point : points) point.*part /= deviation;
  }
}

std::size_t nearest(const std::vector<Point>& centres, const Point& point) {
  std::size_t best = 0;
  double least = 0;
  for (std::size_t k = 0; k < centres.size(); ++k) {
    const double size = centres[k].size - point.size;
    const double error = centres[k].error - point.error;
    const double distance = size * size + error * error;
    if (k == 0 || distance < least) {
      best = k;
      least = distance;
    }
  }
  return best;
}

/// Lloyd's iterations from the quantiles of the errors; the published code starts at random.
std::vector<Point> cluster(const std::vector<Point>& points, std::size_t clusters) {
  constexpr int kMostIterations = 100;
  std::vector<Point> sorted = points;
  const auto by_error = [](const Point& a, const Point& b) {
    return a.error != b.error ? a.error < b.error : a.size < b.size;
  };
  std::sort(sorted.begin(), sorted.end(), by_error);
  std::vector<Point> centres;
  for (std::size_t k = 0; k < clusters; ++k) centres.push_back(sorted[(2 * k + 1) * sorted.size() / (2 * clusters)]);
  std::vector<std::size_t> before;
  for (int i = 0; i < kMostIterations; ++i) {
    std::vector<std::size_t> belongs;
    std::vector<Point> sums(clusters, Point{0, 0});
    std::vector<double> counts(clusters, 0);
    for (const Point& point : points) {
      const std::size_t k = nearest(centres, point);
      belongs.push_back(k);
      sums[k].size += point.size;
      sums[k].error += point.error;
      counts[k] += 1;
    }
    if (belongs == before) break;
    before = belongs;
    for (std::size_t k = 0; k < clusters; ++k)
      if (counts[k] > 0) centres[k] = {sums[k].size / counts[k], sums[k].error / counts[k]};
  }
  std::sort(centres.begin(), centres.end(), by_error);
  return centres;
}

Solver make_cgx_kmeans(const Spec& spec) {
  const Bits range = read_bits(spec);
  return [range, policy = std::string(spec.text)](const Table& table) {
    require_bits(table, policy);
    std::vector<Point> points;
    for (const TableLayer& layer : table.layers)
      points.push_back({static_cast<double>(layer.count), reference_error(layer)});
    whiten(points);
    const std::size_t clusters = std::min<std::size_t>(range.high - range.low + 1, points.size());
    const std::vector<Point> centres = cluster(points, clusters);
    Solution solution;
    for (std::size_t l = 0; l < points.size(); ++l) {
      const std::size_t above = clusters - 1 - nearest(centres, points[l]);  // clusters of larger errors
      solution.choice.push_back(with_bits(table.layers[l], range.high - static_cast<std::uint32_t>(above)));
    }
    return solution;
  };
}

/// One threshold for all layers keeps the largest elements of the whole model, which is the least squared error for
/// their number: the relaxation over the densities that the table has. Layers without any keep their reference.
Solution solve_global_topk(const Table& table, double ratio) {
  std::vector<std::vector<std::size_t>> allowed;
  Knapsack knapsack;
  bool any = false;
  for (const TableLayer& layer : table.layers) {
    std::vector<std::size_t>& of_layer = allowed.emplace_back();
    for (std::size_t c = 0; c < layer.candidates.size(); ++c)
      if (layer.candidates[c].spec.rfind("topk(", 0) == 0) of_layer.push_back(c);
    any = any || !of_layer.empty();
    if (of_layer.empty()) of_layer.push_back(layer.reference);
    std::vector<KnapsackOption>& options = knapsack.layers.emplace_back();
    for (const std::size_t c : of_layer) {
      const Candidate& candidate = layer.candidates[c];
      options.push_back({static_cast<double>(candidate.bytes), candidate.error * candidate.error});
    }
  }
  require(any, "policy \"global_topk\": no layer has a candidate like topk(0.01)");
  const auto reference_bytes = static_cast<double>(totals(table, reference_of(table)).bytes);
  knapsack.limit = ratio > 0 ? std::floor(dense_bytes(table) / ratio) : reference_bytes;
  Solution solution{solve(knapsack).choice, PlanLimit::bytes, knapsack.limit};
  require(!solution.choice.empty(), "global_topk: no plan: the lowest densities take more than the budget of {} bytes",
          knapsack.limit);
  for (std::size_t l = 0; l < allowed.size(); ++l) solution.choice[l] = allowed[l][solution.choice[l]];
  return solution;
}

Solver make_global_topk(const Spec& spec) {
  OptionReader options(spec);
  const double ratio = options.real("ratio", 0, 1e-3, 1e9);
  options.finish();
  return [ratio](const Table& table) { return solve_global_topk(table, ratio); };
}

struct Legacy {
  std::string spec;
  std::string large;
  std::string small;
  double share = 0;
};

/// LEGACY's rule by size: the largest fifth of a model's layers, which has most of its elements, is compressed more
/// than the others, without statistics. That split is the paper's; the two levels are not published well enough to
/// copy, and are options, as is the share. Its rule by phases of training needs a step, which no table has.
Solution solve_legacy(const Table& table, const Legacy& legacy) {
  const std::vector<CandidatePair> pairs = candidate_pairs(table, legacy.large, legacy.small, legacy.spec);
  std::vector<std::size_t> order(pairs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return table.layers[a].count > table.layers[b].count; });
  constexpr double kRounding = 1e-9;  // 0.55 of 100 layers is 55
  const double large = std::ceil(legacy.share * static_cast<double>(order.size()) - kRounding);
  Solution solution{Choice(pairs.size())};
  for (std::size_t place = 0; place < order.size(); ++place) {
    const CandidatePair& pair = pairs[order[place]];
    solution.choice[order[place]] = static_cast<double>(place) < large ? pair.first : pair.second;
  }
  return solution;
}

Solver make_legacy(const Spec& spec) {
  OptionReader options(spec);
  Legacy legacy;
  legacy.spec = spec.text;
  legacy.large = options.spec("large", "");
  legacy.small = options.spec("small", "");
  legacy.share = options.real("share", 0.2, 0, 1);
  options.finish();
  require(!legacy.large.empty() && !legacy.small.empty(), "policy \"{}\": which two? legacy(large=SPEC,small=SPEC)",
          spec.text);
  return [legacy](const Table& table) { return solve_legacy(table, legacy); };
}

}  // namespace

std::vector<PolicyEntry> baseline_entries() {
  return {
      {{"global_topk", "global_topk", "ratio=R: f32 bytes over the budget (as many bytes as the reference)",
        "one threshold for the whole model, on the table's densities of topk", ""},
       make_global_topk},
      {{"cgx_linear", "cgx_linear(low=2,high=8)", "low=1..8 (2), high=1..8 (8): bits",
        "bits = ceil(high + log2(e / max e)), at least low, of the reference's error e",
        "Markov et al. 2022, arXiv 2111.08617; its adjuster.py"},
       make_cgx_linear},
      {{"cgx_kmeans", "cgx_kmeans(low=2,high=8)", "low=1..8 (2), high=1..8 (8): bits",
        "a cluster of (elements, the reference's error) for each number of bits, by rising error",
        "Markov et al. 2022, arXiv 2111.08617; its adjuster.py"},
       make_cgx_kmeans},
      {{"legacy", "legacy(large=q2,small=q4)", "large=SPEC, small=SPEC; share=0..1 of the layers that are large (0.2)",
        "by the rank of a layer's size among all: the largest fifth, and the others", "LEGACY, submitted to ICLR 2026"},
       make_legacy},
  };
}

}  // namespace gradwire
