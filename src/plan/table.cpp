#include "plan/table.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>

#include "base/fail.hpp"

namespace gradwire {
namespace {

void check_candidate(const TableLayer& layer, std::size_t index) {
  const Candidate& candidate = layer.candidates[index];
  require(!candidate.spec.empty(), "table: layer \"{}\": candidate {} has no spec", layer.name, index);
  require(is_error(candidate.error), "table: layer \"{}\": candidate {} (\"{}\"): error is {}; accepted: 0, {}..{}",
          layer.name, index, candidate.spec, candidate.error, kLeastError, kMaxError);
  require(candidate.bytes <= kMaxBytes, "table: layer \"{}\": candidate {} (\"{}\"): bytes is {}; accepted: 0..{}",
          layer.name, index, candidate.spec, candidate.bytes, kMaxBytes);
}

/// The most bytes that a candidate of the layer has.
std::uint64_t check_layer(const TableLayer& layer, std::size_t place) {
  require(!layer.name.empty(), "table: layer {} has no name", place);
  require(layer.count > 0, "table: layer \"{}\" has no elements: count is 0", layer.name);
  require(!layer.candidates.empty(), "table: layer \"{}\" has no candidates", layer.name);
  require(layer.reference < layer.candidates.size(), "table: layer \"{}\": reference is {}; accepted: 0..{}",
          layer.name, layer.reference, layer.candidates.size() - 1);
  std::set<std::string_view> specs;
  std::uint64_t most = 0;
  for (std::size_t i = 0; i < layer.candidates.size(); ++i) {
    check_candidate(layer, i);
    require(specs.insert(layer.candidates[i].spec).second, "table: layer \"{}\": candidate {}: \"{}\" is there twice",
            layer.name, i, layer.candidates[i].spec);
    most = std::max(most, layer.candidates[i].bytes);
  }
  return most;
}

}  // namespace

void check(const Table& table) {
  require(!table.layers.empty(), "table: there are no layers");
  std::set<std::string_view> names;
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < table.layers.size(); ++i) {
    const TableLayer& layer = table.layers[i];
    const std::uint64_t most = check_layer(layer, i);
    require(names.insert(layer.name).second, "table: layer {}: the name \"{}\" is there twice", i, layer.name);
    require(most <= kMaxBytes - bytes, "table: up to layer \"{}\", the largest candidates sum to more than {} bytes",
            layer.name, kMaxBytes);
    bytes += most;
  }
}

Totals totals(const Table& table, const Choice& choice) {
  Totals sum;
  for (std::size_t l = 0; l < table.layers.size(); ++l) {
    const Candidate& candidate = chosen(table, choice, l);
    sum.bytes += candidate.bytes;
    sum.error += candidate.error;
    sum.squared_error += candidate.error * candidate.error;
  }
  return sum;
}

Choice reference_of(const Table& table) {
  Choice choice;
  for (const TableLayer& layer : table.layers) choice.push_back(layer.reference);
  return choice;
}

Plan assemble(const Table& table, const Choice& choice) {
  Plan plan;
  for (std::size_t l = 0; l < table.layers.size(); ++l) {
    const Candidate& candidate = chosen(table, choice, l);
    plan.layers.push_back({table.layers[l].name, candidate.spec, candidate.bytes, candidate.error});
  }
  const Totals sum = totals(table, choice);
  plan.bytes = sum.bytes;
  plan.error = sum.error;
  plan.squared_error = sum.squared_error;
  return plan;
}

}  // namespace gradwire
