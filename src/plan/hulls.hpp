#pragma once
#include <cstddef>
#include <vector>

#include "plan/knapsack.hpp"

namespace gradwire {

/// From one corner of a layer's lower convex hull to the next.
struct HullStep {
  std::size_t layer;
  std::size_t from;
  std::size_t to;
  double weight;  ///< added; positive
  double rate;    ///< cost saved for each unit of weight
};

struct Hulls {
  std::vector<std::vector<std::size_t>> useful;  ///< of each layer: weights rise, costs fall; never empty
  std::vector<HullStep> steps;                   ///< of all layers, steepest first; a layer's own in their order
};

[[nodiscard]] Hulls hulls_of(const Knapsack& knapsack);

}  // namespace gradwire
