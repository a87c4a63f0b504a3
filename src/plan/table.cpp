#include "plan/table.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>
#include <utility>

#include "base/fail.hpp"
#include "plan/sample.hpp"
#include "plan/send_order.hpp"

namespace gradwire {
namespace {

void check_candidate(const TableLayer& layer, std::size_t index) {
  const Candidate& candidate = layer.candidates[index];
  require(!candidate.spec.empty(), "table: layer \"{}\": candidate {} has no spec", layer.name, index);
  require(is_error(candidate.error), "table: layer \"{}\": candidate {} (\"{}\"): error is {}; accepted: 0, {}..{}",
          layer.name, index, candidate.spec, candidate.error, kLeastError, kMaxError);
  require(candidate.bytes <= kMaxBytes, "table: layer \"{}\": candidate {} (\"{}\"): bytes is {}; accepted: 0..{}",
          layer.name, index, candidate.spec, candidate.bytes, kMaxBytes);
  require(candidate.us == 0 || (candidate.us >= kLeastUs && candidate.us <= kMaxUs),
          "table: layer \"{}\": candidate {} (\"{}\"): us is {}; accepted: 0, {:g}..{:g}", layer.name, index,
          candidate.spec, candidate.us, kLeastUs, kMaxUs);
}

/// A shape is one of `count` elements, and of a matrix where there are singular values.
void check_shape(const TableLayer& layer) {
  require(layer.shape.empty() || elements_of(layer.shape) == layer.count,
          "table: layer \"{}\": its shape ({}) does not have {} elements", layer.name, fmt::join(layer.shape, " x "),
          layer.count);
  const MatrixView view = matrix_view(layer.shape);
  const std::size_t most = std::min(view.rows, view.cols);
  require(layer.singular_values.size() <= most, "table: layer \"{}\": its shape ({}) has {} singular values, not {}",
          layer.name, fmt::join(layer.shape, " x "), most, layer.singular_values.size());
}

/// What a table may lack.
void check_statistics(const TableLayer& layer) {
  for (const auto& [what, norm] : {std::pair("norm", layer.norm), std::pair("previous_norm", layer.previous_norm)})
    require(is_error(norm), "table: layer \"{}\": {} is {}; accepted: 0, {}..{}", layer.name, what, norm, kLeastError,
            kMaxError);
  require(layer.ready_us >= 0 && layer.ready_us <= kMaxUs, "table: layer \"{}\": ready_us is {}; accepted: 0..{:g}",
          layer.name, layer.ready_us, kMaxUs);
  double before = kMaxError;
  for (std::size_t i = 0; i < layer.singular_values.size(); ++i) {
    const double value = layer.singular_values[i];
    require(value >= 0 && value <= before, "table: layer \"{}\": singular value {} is {}; accepted: 0..{}, {}",
            layer.name, i, value, before, i == 0 ? "the largest first" : "none above the one before");
    before = value;
  }
  check_shape(layer);
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
  check_statistics(layer);
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

double dense_bytes(const Table& table) {
  double bytes = 0;
  for (const TableLayer& layer : table.layers) bytes += static_cast<double>(layer.count) * sizeof(float);
  return bytes;
}

std::optional<Compressor> find_compressor(std::string_view spec) {
  try {
    return make_compressor(spec);
  } catch (const Error&) {
    return {};
  }
}

namespace {

std::optional<std::string> canonical(std::string_view spec) {
  const std::optional<Compressor> compressor = find_compressor(spec);
  return compressor ? std::optional<std::string>(compressor->spec()) : std::nullopt;
}

}  // namespace

std::optional<std::size_t> find_candidate(const TableLayer& layer, std::string_view spec) {
  for (std::size_t c = 0; c < layer.candidates.size(); ++c)
    if (layer.candidates[c].spec == spec) return c;
  const std::optional<std::string> wanted = canonical(spec);
  for (std::size_t c = 0; wanted && c < layer.candidates.size(); ++c)
    if (canonical(layer.candidates[c].spec) == wanted) return c;
  return {};
}

void require_candidate(const Table& table, std::string_view spec, std::string_view policy) {
  const bool found = std::any_of(table.layers.begin(), table.layers.end(),
                                 [&](const TableLayer& layer) { return find_candidate(layer, spec).has_value(); });
  require(found, "policy \"{}\": no layer has a candidate \"{}\"", policy, spec);
}

std::vector<CandidatePair> candidate_pairs(const Table& table, std::string_view first, std::string_view second,
                                           std::string_view policy) {
  std::vector<CandidatePair> pairs;
  bool any = false;
  for (const TableLayer& layer : table.layers) {
    const auto one = find_candidate(layer, first);
    const auto other = find_candidate(layer, second);
    require(one.has_value() == other.has_value(),
            "policy \"{}\": layer \"{}\" has the candidate \"{}\", but not \"{}\"", policy, layer.name,
            one ? first : second, one ? second : first);
    any = any || one;
    pairs.push_back({one.value_or(layer.reference), other.value_or(layer.reference)});
  }
  require(any, "policy \"{}\": no layer has the candidates \"{}\" and \"{}\"", policy, first, second);
  return pairs;
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
  bool timed = has_ready_times(table);
  for (std::size_t l = 0; l < table.layers.size(); ++l) timed = timed && chosen(table, choice, l).us > 0;
  if (timed) plan.exposed_ms = exposed_us(table, send_order_of(table), choice) / 1000;
  return plan;
}

}  // namespace gradwire
