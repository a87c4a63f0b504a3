#include <algorithm>

#include "plan/hulls.hpp"

namespace gradwire {
namespace {

constexpr std::size_t kFree = ~std::size_t{0};
constexpr std::size_t kMostWork = std::size_t{1} << 21;  // steps looked at: some milliseconds
constexpr double kRounding = 1e-12;                      // far above what sums lose, far below what matters

class Search {
 public:
  Search(const Knapsack& knapsack, const Hulls& hulls, std::vector<std::size_t>& best)
      : knapsack_(knapsack),
        hulls_(hulls),
        best_(best),
        best_cost_(sum(best, &KnapsackOption::cost)),
        best_weight_(sum(best, &KnapsackOption::weight)),
        relaxed_limit_(knapsack.limit * (1 + kRounding)),
        fixed_(best.size(), kFree) {}

  /// All choices that have the options in fixed_.
  void explore() {
    if (work_left_ < hulls_.steps.size() + fixed_.size()) {
      proven_ = false;
      return;
    }
    work_left_ -= hulls_.steps.size() + fixed_.size();
    std::vector<std::size_t> choice(fixed_.size());
    for (std::size_t l = 0; l < choice.size(); ++l)
      choice[l] = fixed_[l] == kFree ? hulls_.useful[l].front() : fixed_[l];
    double weight = sum(choice, &KnapsackOption::weight);
    if (weight > relaxed_limit_) return;
    const HullStep* broken = nullptr;
    const HullStep* last = nullptr;
    for (const HullStep& step : hulls_.steps) {
      if (fixed_[step.layer] != kFree) continue;
      if (weight + step.weight > relaxed_limit_) {
        broken = &step;
        break;
      }
      weight += step.weight;
      choice[step.layer] = step.to;
      last = &step;
    }
    const double cost = sum(choice, &KnapsackOption::cost);
    const bool keeps_limit = offer(choice, cost);
    if (broken != nullptr) {
      if (can_improve(cost - broken->rate * (relaxed_limit_ - weight))) branch(*broken);
    } else if (!keeps_limit && last != nullptr && can_improve(cost)) {
      branch(*last);  // over the limit by rounding alone
    }
  }

  [[nodiscard]] bool proven() const { return proven_; }

 private:
  /// From the option the relaxation began to leave outwards: the next heavier one, the next lighter one, and so on.
  void branch(const HullStep& step) {
    const std::vector<std::size_t>& useful = hulls_.useful[step.layer];
    auto above = std::find(useful.begin(), useful.end(), step.from);
    auto below = above;
    while (above != useful.end() || below != useful.begin()) {
      if (above != useful.end()) explore_with(step.layer, *above++);
      if (below != useful.begin()) explore_with(step.layer, *--below);
    }
  }
  void explore_with(std::size_t layer, std::size_t option) {
    fixed_[layer] = option;
    explore();
    fixed_[layer] = kFree;
  }

  [[nodiscard]] double sum(const std::vector<std::size_t>& choice, double KnapsackOption::*part) const {
    double all = 0;
    for (std::size_t l = 0; l < choice.size(); ++l) all += knapsack_.layers[l][choice[l]].*part;
    return all;
  }
  [[nodiscard]] bool can_improve(double cost) const { return cost < best_cost_ * (1 - kRounding); }
  /// Whether the choice keeps the limit; the best of those stays.
  bool offer(const std::vector<std::size_t>& choice, double cost) {
    const double weight = sum(choice, &KnapsackOption::weight);
    if (weight > knapsack_.limit) return false;
    if (cost < best_cost_ || (cost == best_cost_ && weight < best_weight_)) {
      best_ = choice;
      best_cost_ = cost;
      best_weight_ = weight;
    }
    return true;
  }

  const Knapsack& knapsack_;
  const Hulls& hulls_;
  std::vector<std::size_t>& best_;
  double best_cost_;
  double best_weight_;
  double relaxed_limit_;
  std::vector<std::size_t> fixed_;
  std::size_t work_left_ = kMostWork;
  bool proven_ = true;
};

}  // namespace

bool branch_and_bound(const Knapsack& knapsack, const Hulls& hulls, std::vector<std::size_t>& best) {
  Search search(knapsack, hulls, best);
  search.explore();
  return search.proven();
}

}  // namespace gradwire
