#pragma once
#include <cstddef>
#include <functional>
#include <vector>

#include "plan/knapsack.hpp"

namespace gradwire {

/// Multiple choice with nested limits: options' weights are times, layers pass one after another, each begins when it
/// is ready and the one before has passed, and the last must have passed by the deadline. Least summed cost.
struct Nested {
  std::vector<std::vector<KnapsackOption>> layers;
  std::vector<double> ready;  ///< rise
  double deadline = 0;
  /// Whether a choice keeps the deadline: the exact test, which what is computed here may miss by rounding.
  std::function<bool(const std::vector<std::size_t>& choice)> keeps;
};

/// Looks for a better choice than `best`, which keeps the deadline, with an amount of work that depends on the
/// problem alone. Returns a bound: no choice that keeps the deadline costs less, up to a share of 1e-12. Where it is
/// the cost of what `best` then is, that is proven to be the best.
[[nodiscard]] double improve(const Nested& problem, std::vector<std::size_t>& best);

}  // namespace gradwire
