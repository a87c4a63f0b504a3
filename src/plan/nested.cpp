// For each layer, it and all that follow must fit between its being ready and the deadline. The relaxation over lower
// convex hulls takes the steepest steps first; where one does not fit, the limit that stops it is used up, and it and
// all layers after it have their price: cost saved a unit of time. Any prices give a bound that no choice can beat.
//
// The program goes through the layers with a list of partial choices: of those that begin the next layer no later and
// cost no more, one stays; those that the prices' bound proves no better than the best choice known go. Where the list
// grows over its width the least promising go too, and what they might have become limits the bound. A layer that the
// relaxation leaves between two options far apart makes bounds loose: its options are then fixed one by one.
#include "plan/nested.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <tuple>

#include "plan/hulls.hpp"

namespace gradwire {
namespace {

using Choice = std::vector<std::size_t>;

constexpr double kRounding = 1e-12;  // far above what sums lose, far below what matters
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::size_t kNarrow = 64;  // finds a good choice, with which wider lists drop more
constexpr std::size_t kWide = 1024;
constexpr std::size_t kMostWork = std::size_t{1} << 18;  // partial choices looked at, before all lists are narrow

/// A partial choice up to some layer.
struct State {
  double start;  ///< of the next layer
  double cost;   ///< so far
  double bound;  ///< no choice that begins like this and keeps the deadline costs less
  std::uint32_t parent;
  std::uint32_t option;
};

/// What an option costs at its layer's price, above the least of the layer.
struct PricedOption {
  double above;
  std::size_t option;
  bool operator<(const PricedOption& other) const {
    return std::tie(above, option) < std::tie(other.above, other.option);
  }
};

/// The best choice known, and how much may still be looked at.
struct Progress {
  Choice& best;
  double cost;
  std::size_t work_left = kMostWork;
};

/// The relaxation's prices, and what they leave undecided.
struct Prices {
  std::vector<double> of;   ///< of each layer: they never fall
  std::size_t split_layer;  ///< one that it leaves between two options, if undecided > 0
  double undecided = 0;     ///< cost of the part of its step that did not fit
};

class Search {
 public:
  Search(const Nested& problem, Hulls hulls, Progress& progress)
      : problem_(problem), hulls_(std::move(hulls)), progress_(progress) {
    set_prices();
    set_bounds();
  }

  [[nodiscard]] const Prices& prices() const { return prices_; }
  /// A bound by prices, and what each option of a layer adds to it, the least first.
  [[nodiscard]] double priced() const { return priced_after(0, problem_.ready.front(), 0); }
  [[nodiscard]] const std::vector<PricedOption>& options(std::size_t layer) const { return options_[layer]; }
  [[nodiscard]] bool can_improve(double bound) const { return bound < progress_.cost * (1 - kRounding); }

  /// Offers the choice of all steps that fit as a whole.
  void take_whole_steps() {
    std::vector<double> slack = slacks();
    Choice choice;
    for (const std::vector<std::size_t>& useful : hulls_.useful) choice.push_back(useful.front());
    for (const HullStep& step : hulls_.steps) {
      const auto end = slack.begin() + static_cast<std::ptrdiff_t>(step.layer + 1);
      if (choice[step.layer] != step.from || *std::min_element(slack.begin(), end) < step.weight) continue;
      choice[step.layer] = step.to;
      std::for_each(slack.begin(), end, [&step](double& left) { left -= step.weight; });
    }
    offer(choice);
  }

  /// Offers the best choice that lists of this width lead to. Returns a bound on what was dropped for their width.
  double run(std::size_t width) {
    std::vector<std::vector<State>> all{{State{0, 0, 0, 0, 0}}};
    double dropped = kInfinity;
    for (std::size_t l = 0; l < layers(); ++l) {
      std::vector<State> states = expand(l, all.back());
      drop_beaten(states);
      dropped = std::min(dropped, drop_wide(states, width));
      all.push_back(std::move(states));
    }
    for (const State& last : all.back()) {
      if (!can_improve(last.cost)) continue;
      Choice choice(layers());
      const State* state = &last;
      for (std::size_t l = layers(); l-- > 0;) {
        choice[l] = state->option;
        state = &all[l][state->parent];
      }
      offer(choice);
    }
    return dropped;
  }

 private:
  [[nodiscard]] std::size_t layers() const { return problem_.layers.size(); }
  [[nodiscard]] double lightest(std::size_t layer) const {
    return problem_.layers[layer][hulls_.useful[layer].front()].weight;
  }
  void offer(const Choice& choice) {
    double cost = 0;
    for (std::size_t l = 0; l < layers(); ++l) cost += problem_.layers[l][choice[l]].cost;
    if (cost >= progress_.cost || !problem_.keeps(choice)) return;
    progress_.best = choice;
    progress_.cost = cost;
  }
  /// What each limit leaves beyond the least times of its layers.
  [[nodiscard]] std::vector<double> slacks() const {
    std::vector<double> slacks(layers());
    double least = 0;
    for (std::size_t l = layers(); l-- > 0;) {
      least += lightest(l);
      slacks[l] = std::max(0.0, problem_.deadline - problem_.ready[l] - least);
    }
    return slacks;
  }

  void set_prices() {
    prices_.of.assign(layers(), 0);
    std::vector<double> slack = slacks();
    std::size_t free = layers();  // layers from here on have their price
    for (const HullStep& step : hulls_.steps) {
      if (step.layer >= free) continue;
      const auto end = slack.begin() + static_cast<std::ptrdiff_t>(step.layer + 1);
      const auto tight = std::min_element(slack.begin(), end);
      const double taken = std::min(step.weight, *tight);
      const auto first = static_cast<std::size_t>(tight - slack.begin());
      std::for_each(slack.begin(), end, [taken](double& left) { left -= taken; });
      if (taken == step.weight) continue;
      const double undecided = (step.weight - taken) * step.rate;
      if (undecided > prices_.undecided) {
        prices_.undecided = undecided;
        prices_.split_layer = step.layer;
      }
      std::fill(prices_.of.begin() + static_cast<std::ptrdiff_t>(first),
                prices_.of.begin() + static_cast<std::ptrdiff_t>(free), step.rate);
      free = first;
    }
  }

  /// What bounds need of a layer and those after it: with their prices, and without any.
  void set_bounds() {
    priced_.assign(layers() + 1, 0);
    unpriced_.assign(layers() + 1, 0);
    latest_.assign(layers() + 1, problem_.deadline * (1 + kRounding));
    options_.resize(layers());
    double lost = 0;  // to rounding, at most
    for (std::size_t l = layers(); l-- > 0;) {
      double least = kInfinity;
      double least_cost = kInfinity;
      for (const std::size_t i : hulls_.useful[l]) {
        const KnapsackOption& option = problem_.layers[l][i];
        options_[l].push_back({option.cost + prices_.of[l] * option.weight, i});
        least = std::min(least, options_[l].back().above);
        least_cost = std::min(least_cost, option.cost);
      }
      for (PricedOption& option : options_[l]) option.above -= least;
      std::sort(options_[l].begin(), options_[l].end());
      // of the layer's own limit: what its price is above that of the layer before
      const double raised = prices_.of[l] - (l > 0 ? prices_.of[l - 1] : 0);
      const double limit = l > 0 ? raised * (problem_.deadline - problem_.ready[l]) : 0;
      lost += kRounding * (least + limit);
      priced_[l] = priced_[l + 1] + least - limit;
      unpriced_[l] = unpriced_[l + 1] + least_cost;
      latest_[l] = latest_[l + 1] - lightest(l);
    }
    for (double& rest : priced_) rest -= lost;
  }
  /// Of choices that cost `cost` before `layer` and begin it at `start`.
  [[nodiscard]] double bound_after(std::size_t layer, double start, double cost) const {
    return std::max(priced_after(layer, start, cost), cost + unpriced_[layer]);
  }
  [[nodiscard]] double priced_after(std::size_t layer, double start, double cost) const {
    const double price = layer > 0 ? prices_.of[layer - 1] : prices_.of[0];
    const double limit = price * (problem_.deadline - start);
    return cost + priced_[layer] - limit * (1 + kRounding);
  }

  /// All that the states of the layers before can become with this layer, and may still be the best.
  [[nodiscard]] std::vector<State> expand(std::size_t layer, const std::vector<State>& before) {
    const double next_ready = layer + 1 < layers() ? problem_.ready[layer + 1] : 0;
    std::vector<State> states;
    std::size_t work = 0;
    for (std::uint32_t parent = 0; parent < before.size(); ++parent) {
      const double start_before = std::max(before[parent].start, problem_.ready[layer]);
      const double priced = priced_after(layer, start_before, before[parent].cost);
      for (const PricedOption& priced_option : options_[layer]) {
        ++work;
        if (!can_improve(priced + priced_option.above)) break;  // nor can those that follow
        const KnapsackOption& option = problem_.layers[layer][priced_option.option];
        const double start = std::max(start_before + option.weight, next_ready);
        const double cost = before[parent].cost + option.cost;
        const double least = bound_after(layer + 1, start, cost);
        if (start <= latest_[layer + 1] && can_improve(least))
          states.push_back({start, cost, least, parent, static_cast<std::uint32_t>(priced_option.option)});
      }
    }
    progress_.work_left -= std::min(progress_.work_left, work);
    return states;
  }

  /// Leaves one of those that begin no later and cost no more.
  static void drop_beaten(std::vector<State>& states) {
    std::sort(states.begin(), states.end(), [](const State& a, const State& b) {
      return std::tie(a.start, a.cost, a.parent, a.option) < std::tie(b.start, b.cost, b.parent, b.option);
    });
    double least = kInfinity;
    std::erase_if(states, [&least](const State& state) {
      const bool beaten = state.cost >= least;
      least = std::min(least, state.cost);
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

  const Nested& problem_;
  Hulls hulls_;
  Progress& progress_;
  Prices prices_{};
  std::vector<std::vector<PricedOption>> options_;  ///< of each layer, the cheapest first
  std::vector<double> priced_;    ///< least sum of costs and priced times from a layer on, less priced limits
  std::vector<double> unpriced_;  ///< least sum of costs from a layer on
  std::vector<double> latest_;    ///< when a layer must begin, for the least times to keep the deadline
};

/// With one option of a layer only.
Hulls with_only(Hulls hulls, std::size_t layer, std::size_t option) {
  hulls.useful[layer] = {option};
  std::erase_if(hulls.steps, [layer](const HullStep& step) { return step.layer == layer; });
  return hulls;
}

}  // namespace

double improve(const Nested& problem, Choice& best) {
  double cost = 0;
  for (std::size_t l = 0; l < best.size(); ++l) cost += problem.layers[l][best[l]].cost;
  Progress progress{best, cost};
  const Hulls hulls = hulls_of({problem.layers, problem.deadline});
  Search whole(problem, hulls, progress);
  whole.take_whole_steps();
  const double bound = whole.run(kNarrow);
  if (bound >= progress.cost) return progress.cost;
  const Prices& prices = whole.prices();
  if (prices.undecided == 0) return std::min(progress.cost, std::max(bound, whole.run(kWide)));

  double of_branches = kInfinity;
  for (const PricedOption& option : whole.options(prices.split_layer)) {
    if (!whole.can_improve(whole.priced() + option.above)) break;  // nor can those that follow
    Search branch(problem, with_only(hulls, prices.split_layer, option.option), progress);
    branch.take_whole_steps();
    double dropped = branch.run(kNarrow);
    if (dropped < progress.cost && progress.work_left > 0) dropped = branch.run(kWide);
    of_branches = std::min(of_branches, dropped);
  }
  return std::min(progress.cost, std::max(bound, of_branches));
}

}  // namespace gradwire
