#include "plan/knapsack.hpp"

#include <algorithm>
#include <tuple>

namespace gradwire {
namespace {

using Options = std::vector<KnapsackOption>;

/// From one corner of a layer's hull to the next.
struct Step {
  std::size_t layer;
  std::size_t from;
  std::size_t to;
  double rate;  ///< cost saved for each unit of weight
};

double rate(const KnapsackOption& light, const KnapsackOption& heavy) {
  return (light.cost - heavy.cost) / (heavy.weight - light.weight);
}

/// Corners of the lower convex hull: weights rise, costs fall, and fall ever more slowly. Never empty.
std::vector<std::size_t> hull_of(const Options& options) {
  std::vector<std::size_t> order(options.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::tie(options[a].weight, options[a].cost, a) < std::tie(options[b].weight, options[b].cost, b);
  });
  std::vector<std::size_t> hull;
  for (const std::size_t i : order) {
    if (!hull.empty() && options[i].cost >= options[hull.back()].cost) continue;
    while (hull.size() > 1 &&
           rate(options[hull[hull.size() - 2]], options[hull.back()]) < rate(options[hull.back()], options[i])) {
      hull.pop_back();
    }
    hull.push_back(i);
  }
  return hull;
}

/// A choice being improved. Each move can be taken back.
class Walk {
 public:
  explicit Walk(const Knapsack& knapsack) : knapsack_(knapsack) {
    for (std::size_t l = 0; l < knapsack.layers.size(); ++l) {
      const std::vector<std::size_t> hull = hull_of(knapsack.layers[l]);
      choice_.push_back(hull.front());
      for (std::size_t i = 1; i < hull.size(); ++i)
        steps_.push_back({l, hull[i - 1], hull[i], rate(option(l, hull[i - 1]), option(l, hull[i]))});
    }
    std::stable_sort(steps_.begin(), steps_.end(), [](const Step& a, const Step& b) { return a.rate > b.rate; });
    weight_ = sum(&KnapsackOption::weight);
  }

  [[nodiscard]] bool keeps_limit() const { return sum(&KnapsackOption::weight) <= knapsack_.limit; }

  /// Takes the steps that fit, steepest first. Returns the optimum of the relaxation.
  double take_steps() {
    double bound = -1;
    for (const Step& step : steps_) {
      if (choice_[step.layer] != step.from) continue;  // the layer's step before did not fit
      if (fits(step.layer, step.to)) {
        move(step.layer, step.to);
      } else if (bound < 0) {
        bound = std::max(0.0, sum(&KnapsackOption::cost) - step.rate * (knapsack_.limit - weight_));
      }
    }
    return bound < 0 ? sum(&KnapsackOption::cost) : bound;
  }

  /// Takes the one exchange that saves most, again and again.
  void fill() {
    for (;;) {
      std::size_t layer = 0;
      std::size_t to = 0;
      double saved = 0;
      double weight = 0;
      for (std::size_t l = 0; l < choice_.size(); ++l) {
        const KnapsackOption& now = option(l, choice_[l]);
        for (std::size_t i = 0; i < knapsack_.layers[l].size(); ++i) {
          const KnapsackOption& other = option(l, i);
          const double saves = now.cost - other.cost;
          const double weighs = other.weight - now.weight;
          const bool better = saves > saved || (saves == saved && saves > 0 && weighs < weight);
          if (!better || !fits(l, i)) continue;
          layer = l;
          to = i;
          saved = saves;
          weight = weighs;
        }
      }
      if (saved <= 0) return;
      move(layer, to);
    }
  }

  /// The running weight is rounded at each move. Takes moves back until the sum in the order of layers keeps the limit.
  void settle() {
    while (!moves_.empty() && !keeps_limit()) {
      choice_[moves_.back().layer] = moves_.back().from;
      moves_.pop_back();
    }
  }

  [[nodiscard]] double cost() const { return sum(&KnapsackOption::cost); }
  [[nodiscard]] const std::vector<std::size_t>& choice() const { return choice_; }

 private:
  struct Move {
    std::size_t layer;
    std::size_t from;
  };

  [[nodiscard]] const KnapsackOption& option(std::size_t layer, std::size_t i) const {
    return knapsack_.layers[layer][i];
  }
  [[nodiscard]] double sum(double KnapsackOption::*part) const {
    double all = 0;
    for (std::size_t l = 0; l < choice_.size(); ++l) all += option(l, choice_[l]).*part;
    return all;
  }
  [[nodiscard]] bool fits(std::size_t layer, std::size_t to) const {
    return weight_ + (option(layer, to).weight - option(layer, choice_[layer]).weight) <= knapsack_.limit;
  }
  void move(std::size_t layer, std::size_t to) {
    weight_ += option(layer, to).weight - option(layer, choice_[layer]).weight;
    moves_.push_back({layer, choice_[layer]});
    choice_[layer] = to;
  }

  const Knapsack& knapsack_;
  std::vector<std::size_t> choice_;
  std::vector<Step> steps_;
  std::vector<Move> moves_;
  double weight_ = 0;
};

}  // namespace

KnapsackSolution solve(const Knapsack& knapsack) {
  Walk walk(knapsack);
  if (!walk.keeps_limit()) return {};
  const double bound = walk.take_steps();
  walk.fill();
  walk.settle();
  return {walk.choice(), std::min(bound, walk.cost())};
}

}  // namespace gradwire
