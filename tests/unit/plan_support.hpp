#pragma once
#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "plan/table.hpp"

#include "gradwire/plan.hpp"

namespace gradwire::testing {

/// What the shape of a random table may be.
struct RandomTables {
  std::size_t most_layers = 4;
  std::size_t most_candidates = 5;
  bool whole = false;  ///< errors are small whole numbers: many ties, and sums without rounding
};

inline Table random_table(std::mt19937& random, const RandomTables& shape = {}) {
  const auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  Table table;
  const std::size_t layers = 1 + below(shape.most_layers);
  for (std::size_t l = 0; l < layers; ++l) {
    TableLayer layer{fmt::format("layer{}", l), 1 + below(1000), 0, {}};
    const std::size_t candidates = 1 + below(shape.most_candidates);
    const double scale = std::exp(std::normal_distribution<double>(0, 1)(random));
    for (std::size_t c = 0; c < candidates; ++c) {
      const double error = shape.whole ? static_cast<double>(below(6))
                                       : (below(8) == 0 ? 0.0 : scale * std::uniform_real_distribution<>(0, 1)(random));
      layer.candidates.push_back({fmt::format("c{}", c), shape.whole ? below(6) : below(5000), error});
    }
    layer.reference = below(candidates);
    table.layers.push_back(std::move(layer));
  }
  return table;
}

/// Every choice there is.
inline void for_each_choice(const Table& table, const std::function<void(const Choice&)>& visit) {
  Choice choice(table.layers.size(), 0);
  for (;;) {
    visit(choice);
    std::size_t l = 0;
    while (l < choice.size() && ++choice[l] == table.layers[l].candidates.size()) choice[l++] = 0;
    if (l == choice.size()) return;
  }
}

/// The choice that a plan is.
inline Choice choice_of(const Table& table, const Plan& plan) {
  Choice choice;
  for (std::size_t l = 0; l < table.layers.size(); ++l) {
    const std::vector<Candidate>& candidates = table.layers[l].candidates;
    std::size_t c = 0;
    while (c < candidates.size() && candidates[c].spec != plan.layers.at(l).spec) ++c;
    choice.push_back(c);
  }
  return choice;
}

}  // namespace gradwire::testing
