#include "plan/hulls.hpp"

#include <algorithm>
#include <tuple>

namespace gradwire {
namespace {

using Options = std::vector<KnapsackOption>;

/// Options that no other one beats in weight and cost.
std::vector<std::size_t> useful_of(const Options& options) {
  std::vector<std::size_t> order(options.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::tie(options[a].weight, options[a].cost, a) < std::tie(options[b].weight, options[b].cost, b);
  });
  std::vector<std::size_t> useful;
  for (const std::size_t i : order)
    if (useful.empty() || options[i].cost < options[useful.back()].cost) useful.push_back(i);
  return useful;
}

double rate(const KnapsackOption& light, const KnapsackOption& heavy) {
  return (light.cost - heavy.cost) / (heavy.weight - light.weight);
}

/// Corners of the hull: costs fall ever more slowly. Corners on one line all stay.
std::vector<std::size_t> corners_of(const Options& options, const std::vector<std::size_t>& useful) {
  std::vector<std::size_t> corners;
  for (const std::size_t i : useful) {
    while (corners.size() > 1) {
      const KnapsackOption& last = options[corners.back()];
      if (rate(options[corners[corners.size() - 2]], last) >= rate(last, options[i])) break;
      corners.pop_back();
    }
    corners.push_back(i);
  }
  return corners;
}

}  // namespace

Hulls hulls_of(const Knapsack& knapsack) {
  Hulls hulls;
  for (std::size_t l = 0; l < knapsack.layers.size(); ++l) {
    const Options& options = knapsack.layers[l];
    hulls.useful.push_back(useful_of(options));
    const std::vector<std::size_t> corners = corners_of(options, hulls.useful.back());
    for (std::size_t i = 1; i < corners.size(); ++i) {
      const KnapsackOption& light = options[corners[i - 1]];
      const KnapsackOption& heavy = options[corners[i]];
      hulls.steps.push_back({l, corners[i - 1], corners[i], heavy.weight - light.weight, rate(light, heavy)});
    }
  }
  std::stable_sort(hulls.steps.begin(), hulls.steps.end(),
                   [](const HullStep& a, const HullStep& b) { return a.rate > b.rate; });
  return hulls;
}

}  // namespace gradwire
