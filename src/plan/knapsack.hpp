#pragma once
#include <cstddef>
#include <vector>

namespace gradwire {

struct KnapsackOption {
  double weight;
  double cost;
};

/// Multiple choice: one option of each layer, least summed cost, summed weight at most `limit`. Weights and costs are
/// finite and not negative; sums run in the order of layers.
struct Knapsack {
  std::vector<std::vector<KnapsackOption>> layers;
  double limit = 0;
};

struct KnapsackSolution {
  std::vector<std::size_t> choice;  ///< empty: no choice keeps the limit
  double bound = 0;                 ///< no choice that keeps the limit costs less, up to rounding of the sum
};

/// The optimum of the relaxation over the layers' lower convex hulls, rounded down to whole steps, filled, and then
/// improved by a search of bounded work (plan/nested.hpp). Where that goes through, the choice is the optimum, and its
/// cost the bound.
[[nodiscard]] KnapsackSolution solve(const Knapsack& knapsack);

}  // namespace gradwire
