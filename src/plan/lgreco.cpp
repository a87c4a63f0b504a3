// L-GreCo's dynamic program (arXiv 2210.17357): fewest bytes, or least exposed time, while the layers' errors, rounded
// up to bins, sum to at most `bins`. docs/adr/0008 says in what it departs from the published code.
//
// Candidates that another one beats in bins and cost are dropped first. Bins are then counted above each layer's
// least, bytes above each layer's fewest.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/fail.hpp"
#include "plan/bins_program.hpp"
#include "plan/policy.hpp"
#include "plan/send_order.hpp"

namespace gradwire {
namespace {

constexpr std::uint32_t kMaxBins = 1'000'000;
constexpr std::size_t kMaxCells = std::size_t{1} << 26;  // of all rows

struct Settings {
  std::string spec;
  double alpha = 1;
  std::uint32_t bins = 0;
  bool time = false;
};

/// What is least: bytes, or the time in which they are sent.
class Objective {
 public:
  Objective(const Table& table, bool time) : table_(table) {
    if (time) send_order_ = send_order_of(table);
  }

  [[nodiscard]] bool is_time() const { return !send_order_.order.empty(); }
  [[nodiscard]] double of(const Candidate& candidate) const {
    return is_time() ? candidate.us : static_cast<double>(candidate.bytes);
  }
  [[nodiscard]] double of(const Choice& choice) const {
    return is_time() ? exposed_us(table_, send_order_, choice) : static_cast<double>(totals(table_, choice).bytes);
  }
  /// The program's layers, without items: in the order in which they are sent.
  [[nodiscard]] std::vector<BinLayer> layers() const {
    std::vector<BinLayer> layers;
    for (std::size_t place = 0; place < table_.layers.size(); ++place)
      layers.push_back(is_time() ? BinLayer{send_order_.order[place], {}, 0, send_order_.ready[place]}
                                 : BinLayer{place, {}});
    return layers;
  }

 private:
  const Table& table_;
  SendOrder send_order_;
};

/// Candidates of a layer that the best plan may hold: bins rise, costs fall. Empty when all are over the limit.
std::vector<BinItem> items_of(const TableLayer& layer, const Objective& objective, double limit, std::uint32_t bins) {
  std::vector<BinItem> items;
  for (std::size_t c = 0; c < layer.candidates.size(); ++c) {
    const Candidate& candidate = layer.candidates[c];
    if (candidate.error > limit) continue;
    const double rounded = candidate.error == 0 ? 0 : std::ceil(candidate.error * bins / limit);
    if (rounded <= bins) items.push_back({static_cast<std::uint64_t>(rounded), objective.of(candidate), c});
  }
  std::stable_sort(items.begin(), items.end(), [](const BinItem& a, const BinItem& b) {
    return a.bins != b.bins ? a.bins < b.bins : a.cost < b.cost;
  });
  std::vector<BinItem> kept;
  for (const BinItem& item : items)
    if (kept.empty() || item.cost < kept.back().cost) kept.push_back(item);
  return kept;
}

/// The best plan among those that rounding up leaves, or an empty choice.
template <class T>
Choice best_rounded(const Table& table, const std::vector<BinLayer>& layers, std::size_t spare, double limit) {
  const BinProgram<T> program(layers, spare);
  for (;;) {
    const std::size_t cell = program.first_cell(spare);
    Choice choice = program.trace(cell);
    if (totals(table, choice).error <= limit) return choice;
    if (cell == 0) return {};
    spare = cell - 1;  // the sum itself was rounded up over the limit: some bins less
  }
}

Choice solve_rounded(const Table& table, const Objective& objective, double limit, std::uint32_t bins) {
  std::vector<BinLayer> layers = objective.layers();
  std::uint64_t least_bins = 0;
  std::uint64_t most_spare = 0;
  double cost = 0;
  for (BinLayer& layer : layers) {
    layer.items = items_of(table.layers[layer.layer], objective, limit, bins);
    const std::vector<BinItem>& items = layer.items;
    if (items.empty()) return {};
    if (!objective.is_time()) layer.base = items.back().cost;
    least_bins += items.front().bins;
    most_spare += items.back().bins - items.front().bins;
    cost += items.front().cost - layer.base;
  }
  if (least_bins > bins) return {};
  const std::uint64_t spare = std::min(bins - least_bins, most_spare);
  if (spare + 1 > kMaxCells / (layers.size() + 1)) {
    fail(Errc::unsupported, "lgreco: {} layers x {} bins are more than {} cells; fewer bins, please", layers.size(),
         bins, kMaxCells);
  }
  const bool whole = !objective.is_time() && cost <= std::numeric_limits<std::uint32_t>::max();
  return whole ? best_rounded<std::uint32_t>(table, layers, spare, limit)
               : best_rounded<double>(table, layers, spare, limit);
}

/// Least error in each layer, then least cost.
Choice least_errors(const Table& table, const Objective& objective) {
  Choice choice;
  for (const TableLayer& layer : table.layers) {
    const auto better = [&objective](const Candidate& a, const Candidate& b) {
      return a.error != b.error ? a.error < b.error : objective.of(a) < objective.of(b);
    };
    const auto least = std::min_element(layer.candidates.begin(), layer.candidates.end(), better);
    choice.push_back(static_cast<std::size_t>(least - layer.candidates.begin()));
  }
  return choice;
}

Solution solve(const Table& table, const Settings& settings) {
  if (settings.time) require_times(table, settings.spec);
  const Objective objective(table, settings.time);
  const Choice reference = reference_of(table);
  const double limit = settings.alpha * totals(table, reference).error;
  Choice best = solve_rounded(table, objective, limit, settings.bins);
  const Choice least = least_errors(table, objective);
  for (const Choice* other : {&reference, &least}) {
    const bool keeps_limit = totals(table, *other).error <= limit;
    if (keeps_limit && (best.empty() || objective.of(*other) < objective.of(best))) best = *other;
  }
  require(!best.empty(), "lgreco: no plan: the layers' least errors sum to {}, over the budget of {} x {} = {}",
          totals(table, least).error, settings.alpha, totals(table, reference).error, limit);
  return {std::move(best), PlanLimit::error, limit};
}

Solver make(const Spec& spec) {
  OptionReader options(spec);
  Settings settings;
  settings.spec = spec.text;
  settings.alpha = options.real("alpha", 1, 0, 1e6);
  settings.bins = options.number("bins", 10'000, 1, kMaxBins);
  settings.time = options.choice("objective", 0, {"bytes", "time"}) == 1;
  options.finish();
  return [settings](const Table& table) { return solve(table, settings); };
}

}  // namespace

PolicyEntry lgreco_entry() {
  return {
      {"lgreco", "lgreco(alpha=1)",
       "alpha=F: the budget, times the reference's summed error; bins=1..1000000 (10000); objective=bytes|time (bytes)",
       "fewest bytes, or least exposed time, while the layers' errors, rounded up to bins, sum to at most the budget: "
       "dynamic program",
       "Markov et al. 2022, arXiv 2210.17357"},
      make};
}

}  // namespace gradwire
