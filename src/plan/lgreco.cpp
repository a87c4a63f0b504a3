// L-GreCo's dynamic program (arXiv 2210.17357): fewest bytes while the layers' errors, rounded up to bins, sum to at
// most `bins`. docs/adr/0008 says in what it departs from the published code.
//
// Candidates that another one beats in bins and bytes are dropped first. Bins are then counted above each layer's
// least, bytes above each layer's fewest: a row of cells holds, for each number of spare bins, the fewest spare bytes
// of the layers so far. All rows are kept, and walking back asks each which candidate it came from.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "base/fail.hpp"
#include "compress/isa.hpp"
#include "plan/bins.hpp"
#include "plan/policy.hpp"
#include "plan/table.hpp"

namespace gradwire {
namespace {

constexpr std::uint32_t kMaxBins = 1'000'000;
constexpr std::size_t kMaxCells = std::size_t{1} << 26;  // of all rows

struct Item {
  std::uint64_t bins;
  std::uint64_t bytes;
  std::size_t candidate;
};

struct Settings {
  double alpha;
  std::uint32_t bins;
};

/// Candidates of a layer that the best plan may hold: bins rise, bytes fall. Empty when all are over the limit.
std::vector<Item> items_of(const TableLayer& layer, double limit, std::uint32_t bins) {
  std::vector<Item> items;
  for (std::size_t c = 0; c < layer.candidates.size(); ++c) {
    const Candidate& candidate = layer.candidates[c];
    if (candidate.error > limit) continue;
    const double rounded = candidate.error == 0 ? 0 : std::ceil(candidate.error * bins / limit);
    if (rounded <= bins) items.push_back({static_cast<std::uint64_t>(rounded), candidate.bytes, c});
  }
  std::stable_sort(items.begin(), items.end(),
                   [](const Item& a, const Item& b) { return a.bins != b.bins ? a.bins < b.bins : a.bytes < b.bytes; });
  std::vector<Item> kept;
  for (const Item& item : items)
    if (kept.empty() || item.bytes < kept.back().bytes) kept.push_back(item);
  return kept;
}

/// The program over layers of items, with room for `spare` bins above the least of each.
template <class T>
class Program {
 public:
  Program(const std::vector<std::vector<Item>>& layers, std::size_t spare)
      : layers_(layers), cells_(spare + 1), rows_(std::make_unique<T[]>((layers.size() + 1) * cells_)) {
    std::vector<std::uint32_t> bins;
    std::vector<T> costs;
    for (std::size_t l = 0; l < layers.size(); ++l) {
      bins.clear();
      costs.clear();
      for (const Item& item : layers[l]) {
        bins.push_back(static_cast<std::uint32_t>(bins_of(l, item)));
        costs.push_back(cost_of(l, item));
      }
      relax({row(l), row(l + 1), bins.data(), costs.data(), bins.size(), cells_});
    }
  }

  /// The fewest spare bins that give the fewest bytes with at most `spare` of them.
  [[nodiscard]] std::size_t first_cell(std::size_t spare) const {
    const T* const last = row(layers_.size());
    return static_cast<std::size_t>(std::find(last, last + spare, last[spare]) - last);  // along a row bytes never rise
  }
  /// The plan of a first_cell(); of several the one with the lowest candidates, from the last layer on.
  [[nodiscard]] Choice trace(std::size_t cell) const {
    Choice choice(layers_.size());
    for (std::size_t l = layers_.size(); l-- > 0;) {
      const Item* best = nullptr;
      for (const Item& item : layers_[l]) {
        if (bins_of(l, item) > cell || (best != nullptr && best->candidate < item.candidate)) continue;
        if (row(l)[cell - bins_of(l, item)] + cost_of(l, item) == row(l + 1)[cell]) best = &item;
      }
      choice[l] = best->candidate;
      cell -= bins_of(l, *best);
    }
    return choice;
  }

 private:
  static void relax(const kernels::Relax<T>& job) {
    const BinKernels& kernels = isa::kernels<BinKernels>();
    if constexpr (std::is_same_v<T, double>) {
      kernels.relax_f64(job);
    } else {
      kernels.relax_u32(job);
    }
  }
  [[nodiscard]] std::size_t bins_of(std::size_t layer, const Item& item) const {
    return item.bins - layers_[layer].front().bins;
  }
  [[nodiscard]] T cost_of(std::size_t layer, const Item& item) const {
    return static_cast<T>(item.bytes - layers_[layer].back().bytes);
  }
  [[nodiscard]] T* row(std::size_t layer) const { return rows_.get() + layer * cells_; }

  const std::vector<std::vector<Item>>& layers_;
  std::size_t cells_;
  std::unique_ptr<T[]> rows_;
};

/// The best plan among those that rounding up leaves, or an empty choice.
template <class T>
Choice best_rounded(const Table& table, const std::vector<std::vector<Item>>& layers, std::size_t spare, double limit) {
  const Program<T> program(layers, spare);
  for (;;) {
    const std::size_t cell = program.first_cell(spare);
    Choice choice = program.trace(cell);
    if (totals(table, choice).error <= limit) return choice;
    if (cell == 0) return {};
    spare = cell - 1;  // the sum itself was rounded up over the limit: some bins less
  }
}

Choice solve_rounded(const Table& table, double limit, std::uint32_t bins) {
  std::vector<std::vector<Item>> layers;
  std::uint64_t least_bins = 0;
  std::uint64_t most_spare = 0;
  std::uint64_t cost = 0;
  for (const TableLayer& layer : table.layers) {
    layers.push_back(items_of(layer, limit, bins));
    const std::vector<Item>& items = layers.back();
    if (items.empty()) return {};
    least_bins += items.front().bins;
    most_spare += items.back().bins - items.front().bins;
    cost += items.front().bytes - items.back().bytes;
  }
  if (least_bins > bins) return {};
  const std::uint64_t spare = std::min(bins - least_bins, most_spare);
  if (spare + 1 > kMaxCells / (layers.size() + 1)) {
    fail(Errc::unsupported, "lgreco: {} layers x {} bins are more than {} cells; fewer bins, please", layers.size(),
         bins, kMaxCells);
  }
  return cost <= std::numeric_limits<std::uint32_t>::max() ? best_rounded<std::uint32_t>(table, layers, spare, limit)
                                                           : best_rounded<double>(table, layers, spare, limit);
}

/// Least error in each layer, then fewest bytes.
Choice least_errors(const Table& table) {
  Choice choice;
  for (const TableLayer& layer : table.layers) {
    const auto better = [](const Candidate& a, const Candidate& b) {
      return a.error != b.error ? a.error < b.error : a.bytes < b.bytes;
    };
    const auto least = std::min_element(layer.candidates.begin(), layer.candidates.end(), better);
    choice.push_back(static_cast<std::size_t>(least - layer.candidates.begin()));
  }
  return choice;
}

Solution solve(const Table& table, const Settings& settings) {
  const Choice reference = reference_of(table);
  const double limit = settings.alpha * totals(table, reference).error;
  Choice best = solve_rounded(table, limit, settings.bins);
  const Choice least = least_errors(table);
  for (const Choice* other : {&reference, &least}) {
    const Totals sum = totals(table, *other);
    if (sum.error <= limit && (best.empty() || sum.bytes < totals(table, best).bytes)) best = *other;
  }
  require(!best.empty(), "lgreco: no plan: the layers' least errors sum to {}, over the budget of {} x {} = {}",
          totals(table, least).error, settings.alpha, totals(table, reference).error, limit);
  return {std::move(best), PlanLimit::error, limit};
}

Solver make(const Spec& spec) {
  OptionReader options(spec);
  Settings settings{};
  settings.alpha = options.real("alpha", 1, 0, 1e6);
  settings.bins = options.number("bins", 10'000, 1, kMaxBins);
  const std::size_t objective = options.choice("objective", 0, {"bytes", "time"});
  options.finish();
  if (objective != 0) {
    fail(Errc::unsupported, "policy \"{}\": objective=time needs a model of time, which gradwire does not have yet",
         spec.text);
  }
  return [settings](const Table& table) { return solve(table, settings); };
}

}  // namespace

PolicyEntry lgreco_entry() {
  return {{"lgreco", "lgreco(alpha=1)",
           "alpha=F: the budget, times the reference's summed error; bins=1..1000000 (10000); objective=bytes",
           "fewest bytes while the layers' errors, rounded up to bins, sum to at most the budget: dynamic program",
           "Markov et al. 2022, arXiv 2210.17357"},
          make};
}

}  // namespace gradwire
