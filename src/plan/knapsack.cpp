#include "plan/knapsack.hpp"

#include <algorithm>

#include "plan/hulls.hpp"
#include "plan/nested.hpp"

namespace gradwire {
namespace {

/// A choice being improved. Each move can be taken back.
class Walk {
 public:
  Walk(const Knapsack& knapsack, const Hulls& hulls) : knapsack_(knapsack), steps_(hulls.steps) {
    for (const std::vector<std::size_t>& useful : hulls.useful) choice_.push_back(useful.front());
    weight_ = sum(&KnapsackOption::weight);
  }

  [[nodiscard]] bool keeps_limit() const { return sum(&KnapsackOption::weight) <= knapsack_.limit; }

  /// Takes the steps that fit, steepest first. Returns the optimum of the relaxation.
  double take_steps() {
    double bound = -1;
    for (const HullStep& step : steps_) {
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
  const std::vector<HullStep>& steps_;
  std::vector<std::size_t> choice_;
  std::vector<Move> moves_;
  double weight_ = 0;
};

}  // namespace

KnapsackSolution solve(const Knapsack& knapsack) {
  const Hulls hulls = hulls_of(knapsack);
  Walk walk(knapsack, hulls);
  if (!walk.keeps_limit()) return {};
  const double bound = walk.take_steps();
  walk.fill();
  walk.settle();
  KnapsackSolution solution{walk.choice(), 0};
  const auto sum = [&](const std::vector<std::size_t>& choice, double KnapsackOption::*part) {
    double all = 0;
    for (std::size_t l = 0; l < choice.size(); ++l) all += knapsack.layers[l][choice[l]].*part;
    return all;
  };
  const Nested one_limit{knapsack.layers, std::vector<double>(knapsack.layers.size(), 0), knapsack.limit,
                         [&](const auto& choice) { return sum(choice, &KnapsackOption::weight) <= knapsack.limit; }};
  const double proven = improve(one_limit, solution.choice);
  solution.bound = std::min(std::max(bound, proven), sum(solution.choice, &KnapsackOption::cost));
  return solution;
}

}  // namespace gradwire
