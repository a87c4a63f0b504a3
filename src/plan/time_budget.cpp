// Least squared error with so much time exposed (docs/adr/0008 has the model of time).
//
// Layers stand in the order in which they are sent, and the last must be sent by a deadline. So for each layer, it and
// all that follow must fit between its being ready and the deadline: nested limits. The relaxation over lower convex
// hulls takes the steepest steps first; where one does not fit, the limit that stops it is used up, and it and all
// layers after it have their price, error saved a microsecond. Any prices give a bound that no plan can beat.
//
// The program then goes through the layers with a list of partial plans: of those that begin the next layer no later
// and have no more error, one stays; those that the prices' bound proves no better than the best plan known go. Where
// the list grows over its width the least promising go too, and what they might have become limits the bound.
#include "plan/time_budget.hpp"

#include <algorithm>
#include <limits>
#include <tuple>

#include "base/fail.hpp"
#include "plan/hulls.hpp"
#include "plan/schedule.hpp"

namespace gradwire {
namespace {

constexpr double kRounding = 1e-12;  // far above what sums lose, far below what matters
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A partial plan up to some layer.
struct State {
  double start;  ///< of the next layer
  double error;  ///< squared, so far
  double bound;  ///< no plan that begins like this has less, within the deadline
  std::uint32_t parent;
  std::uint32_t option;
};

/// Layers in the order in which they are sent: options have times as weights and squared errors as costs.
class TimeBudget {
 public:
  TimeBudget(const Table& table, double ms)
      : table_(table), ms_(ms), schedule_(schedule_of(table)), deadline_(schedule_.ready.back() + ms * 1000) {
    for (const std::size_t l : schedule_.order) {
      std::vector<KnapsackOption>& options = problem_.layers.emplace_back();
      for (const Candidate& candidate : table.layers[l].candidates)
        options.push_back({candidate.us, candidate.error * candidate.error});
    }
    hulls_ = hulls_of(problem_);
  }

  [[nodiscard]] double exposed_ms(const Choice& choice) const { return exposed_us(table_, schedule_, choice) / 1000; }
  [[nodiscard]] bool keeps(const Choice& choice) const { return exposed_ms(choice) <= ms_; }
  /// The least time of each layer.
  [[nodiscard]] Choice lightest() const {
    std::vector<std::size_t> options;
    for (const std::vector<std::size_t>& useful : hulls_.useful) options.push_back(useful.front());
    return in_table_order(options);
  }

  /// The better of both, if it keeps the deadline.
  void offer(const Choice& choice) {
    const double error = totals(table_, choice).squared_error;
    if (error >= best_error_ || !keeps(choice)) return;
    best_ = choice;
    best_error_ = error;
  }

  /// `offer` has had a plan that keeps the deadline. Returns the bound.
  double solve() {
    relax();
    take_whole_steps();
    set_bounds();
    constexpr std::size_t kWidths[] = {64, 4096};  // the first finds a good plan, with which the second drops more
    double dropped = kInfinity;
    for (const std::size_t width : kWidths) {
      dropped = search(width);
      if (dropped >= best_error_) break;
    }
    return std::min(best_error_, dropped);
  }
  [[nodiscard]] const Choice& best() const { return best_; }

 private:
  [[nodiscard]] std::size_t layers() const { return problem_.layers.size(); }
  [[nodiscard]] Choice in_table_order(const std::vector<std::size_t>& options) const {
    Choice choice(options.size());
    for (std::size_t place = 0; place < options.size(); ++place) choice[schedule_.order[place]] = options[place];
    return choice;
  }
  /// What each limit leaves beyond the least times of its layers.
  [[nodiscard]] std::vector<double> slacks() const {
    std::vector<double> slacks(layers());
    double least = 0;
    for (std::size_t l = layers(); l-- > 0;) {
      least += problem_.layers[l][hulls_.useful[l].front()].weight;
      slacks[l] = std::max(0.0, deadline_ - schedule_.ready[l] - least);
    }
    return slacks;
  }

  /// Prices of the relaxation: they never fall along the order.
  void relax() {
    prices_.assign(layers(), 0);
    std::vector<double> slack = slacks();
    std::size_t free = layers();  // layers from here on have their price
    for (const HullStep& step : hulls_.steps) {
      if (step.layer >= free) continue;
      const auto end = slack.begin() + static_cast<std::ptrdiff_t>(step.layer + 1);
      const auto tight = std::min_element(slack.begin(), end);
      const double taken = std::min(step.weight, *tight);
      const bool stopped = taken < step.weight;
      std::for_each(slack.begin(), end, [taken](double& left) { left -= taken; });
      if (!stopped) continue;
      const auto first = static_cast<std::size_t>(tight - slack.begin());
      std::fill(prices_.begin() + static_cast<std::ptrdiff_t>(first),
                prices_.begin() + static_cast<std::ptrdiff_t>(free), step.rate);
      free = first;
    }
  }

  /// Offers the plan of all steps that fit as a whole.
  void take_whole_steps() {
    std::vector<double> slack = slacks();
    std::vector<std::size_t> options;
    for (const std::vector<std::size_t>& useful : hulls_.useful) options.push_back(useful.front());
    for (const HullStep& step : hulls_.steps) {
      const auto end = slack.begin() + static_cast<std::ptrdiff_t>(step.layer + 1);
      if (options[step.layer] != step.from || *std::min_element(slack.begin(), end) < step.weight) continue;
      options[step.layer] = step.to;
      std::for_each(slack.begin(), end, [&step](double& left) { left -= step.weight; });
    }
    offer(in_table_order(options));
  }

  /// What bounds need of the layers after each: with their prices, and without any.
  void set_bounds() {
    priced_.assign(layers(), 0);
    unpriced_.assign(layers(), 0);
    latest_.assign(layers(), deadline_ * (1 + kRounding));
    double lost = 0;  // to rounding, at most
    for (std::size_t l = layers() - 1; l > 0; --l) {
      double least = kInfinity;
      double least_error = kInfinity;
      for (const std::size_t i : hulls_.useful[l]) {
        const KnapsackOption& option = problem_.layers[l][i];
        least = std::min(least, option.cost + prices_[l] * option.weight);
        least_error = std::min(least_error, option.cost);
      }
      const double limit = (prices_[l] - prices_[l - 1]) * (deadline_ - schedule_.ready[l]);
      lost += kRounding * (least + limit);
      priced_[l - 1] = priced_[l] + least - limit;
      unpriced_[l - 1] = unpriced_[l] + least_error;
      latest_[l - 1] = latest_[l] - problem_.layers[l][hulls_.useful[l].front()].weight;
    }
    for (double& rest : priced_) rest -= lost;
  }
  [[nodiscard]] double bound(std::size_t layer, double start, double error) const {
    const double limit = prices_[layer] * (deadline_ - start);
    return error + std::max(priced_[layer] - limit - kRounding * limit, unpriced_[layer]);
  }

  /// All that the states of the layers before can become with this layer, and may still be the best.
  [[nodiscard]] std::vector<State> expand(std::size_t layer, const std::vector<State>& before) const {
    const double next_ready = layer + 1 < layers() ? schedule_.ready[layer + 1] : 0;
    std::vector<State> states;
    for (std::uint32_t parent = 0; parent < before.size(); ++parent) {
      for (const std::size_t i : hulls_.useful[layer]) {
        const KnapsackOption& option = problem_.layers[layer][i];
        const double start = std::max(finish(before[parent].start, schedule_.ready[layer], option.weight), next_ready);
        if (start > latest_[layer]) break;  // times rise
        const double error = before[parent].error + option.cost;
        const double least = bound(layer, start, error);
        if (least < best_error_ * (1 - kRounding))
          states.push_back({start, error, least, parent, static_cast<std::uint32_t>(i)});
      }
    }
    return states;
  }

  /// Leaves one of those that begin no later and have no more error.
  static void drop_beaten(std::vector<State>& states) {
    std::sort(states.begin(), states.end(), [](const State& a, const State& b) {
      return std::tie(a.start, a.error, a.parent, a.option) < std::tie(b.start, b.error, b.parent, b.option);
    });
    double least = kInfinity;
    std::erase_if(states, [&least](const State& state) {
      const bool beaten = state.error >= least;
      least = std::min(least, state.error);
      return beaten;
    });
  }
  /// Leaves the `width` that promise most. Returns the least bound of the others.
  static double drop_wide(std::vector<State>& states, std::size_t width) {
    if (states.size() <= width) return kInfinity;
    std::sort(states.begin(), states.end(),
              [](const State& a, const State& b) { return std::tie(a.bound, a.start) < std::tie(b.bound, b.start); });
    const double dropped = states[width].bound;
    states.resize(width);
    return dropped;
  }

  /// Offers the best plan that lists of this width lead to. Returns a bound on what was dropped for their width.
  double search(std::size_t width) {
    std::vector<std::vector<State>> all{{State{0, 0, 0, 0, 0}}};
    double dropped = kInfinity;
    for (std::size_t l = 0; l < layers(); ++l) {
      std::vector<State> states = expand(l, all.back());
      drop_beaten(states);
      dropped = std::min(dropped, drop_wide(states, width));
      all.push_back(std::move(states));
    }
    for (const State& last : all.back()) {
      std::vector<std::size_t> options(layers());
      const State* state = &last;
      for (std::size_t l = layers(); l-- > 0;) {
        options[l] = state->option;
        state = &all[l][state->parent];
      }
      offer(in_table_order(options));
    }
    return dropped;
  }

  const Table& table_;
  double ms_;
  Schedule schedule_;
  double deadline_;
  Knapsack problem_;
  Hulls hulls_;
  Choice best_;
  double best_error_ = kInfinity;
  std::vector<double> prices_;
  std::vector<double> priced_;    ///< least sum of squared errors and priced times after a layer, less priced limits
  std::vector<double> unpriced_;  ///< least sum of squared errors after a layer
  std::vector<double> latest_;    ///< when the layer after must begin, for the least times to keep the deadline
};

}  // namespace

Solution solve_time_budget(const Table& table, double ms, const std::string& policy) {
  require_times(table, policy);
  TimeBudget budget(table, ms);
  const Choice lightest = budget.lightest();
  require(budget.keeps(lightest), "policy \"{}\": no plan: at least {} ms are exposed, over the budget of {} ms",
          policy, budget.exposed_ms(lightest), ms);
  budget.offer(lightest);
  budget.offer(reference_of(table));
  const double bound = budget.solve();
  return {budget.best(), PlanLimit::time, ms, bound};
}

}  // namespace gradwire
