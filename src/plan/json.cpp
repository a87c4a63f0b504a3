#include "base/fail.hpp"
#include "base/parse_json.hpp"
#include "plan/figures.hpp"
#include "plan/json_object.hpp"
#include "plan/table.hpp"

namespace gradwire {
namespace {

Json parse(std::string_view text, std::string_view what) { return parse_json<Json>(text, what); }

std::string place_of(const JsonObject& parent, std::string_view what, std::size_t index) {
  return fmt::format("{}: {} {}", parent.place(), what, index);
}

TableLayer read_table_layer(const JsonObject& from) {
  TableLayer layer;
  layer.name = from.text("name");
  layer.count = from.whole("count");
  layer.reference = from.whole("reference");
  const Json& candidates = from.list("candidates");
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const JsonObject each(candidates[i], fmt::format("{} (\"{}\"): candidate {}", from.place(), layer.name, i));
    layer.candidates.push_back({each.text("spec"), each.whole("bytes"), each.real("error"), each.real_or_zero("us")});
  }
  if (from.has("shape")) layer.shape = from.wholes("shape");
  layer.norm = from.real_or_zero("norm");
  layer.previous_norm = from.real_or_zero("previous_norm");
  layer.ready_us = from.real_or_zero("ready_us");
  layer.singular_values = from.reals("singular_values");
  return layer;
}

PlanLimit read_limit(const JsonObject& from) {
  if (!from.has("budget")) return PlanLimit::none;
  if (!from.has("limit")) return PlanLimit::error;
  const std::string text = from.text("limit");
  for (const PlanLimit limit : {PlanLimit::error, PlanLimit::squared_error, PlanLimit::bytes, PlanLimit::time})
    if (text == name(limit)) return limit;
  fail(Errc::invalid_argument, "plan: \"limit\" is \"{}\"; expected error, squared_error, bytes or time", text);
}

void check_given(const JsonObject& from, const char* key, double sum) {
  if (from.has(key)) check_sum(key, from.real(key), sum, kSumRounding);
}

}  // namespace

Table table_from_json(std::string_view text) {
  const Json json = parse(text, "table");
  const JsonObject from(json, "table");
  Table table;
  const Json& layers = from.list("layers");
  for (std::size_t i = 0; i < layers.size(); ++i)
    table.layers.push_back(read_table_layer({layers[i], place_of(from, "layer", i)}));
  check(table);
  return table;
}

Plan plan_from_json(std::string_view text) {
  const Json json = parse(text, "plan");
  const JsonObject from(json, "plan");
  Plan plan;
  const Json& layers = from.list("layers");
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const JsonObject each(layers[i], place_of(from, "layer", i));
    plan.layers.push_back({each.text("name"), each.text("spec"), each.whole("bytes"), each.real("error")});
  }
  sum_layers(plan);
  if (from.has("bytes"))
    check_sum("bytes", static_cast<double>(from.whole("bytes")), static_cast<double>(plan.bytes), 0);
  check_given(from, "error", plan.error);
  check_given(from, "squared_error", plan.squared_error);
  if (from.has("policy")) plan.policy = from.text("policy");
  plan.limit = read_limit(from);
  if (plan.limit != PlanLimit::none) plan.budget = from.amount("budget");
  if (from.has("exposed_ms")) plan.exposed_ms = from.amount("exposed_ms");
  if (from.has("bound")) plan.bound = from.amount("bound");
  if (from.has("solver_ms")) plan.solver_ms = from.amount("solver_ms");
  return plan;
}

std::string to_json(const Table& table) {
  check(table);
  Json layers = Json::array();
  for (const TableLayer& layer : table.layers) {
    Json candidates = Json::array();
    for (const Candidate& candidate : layer.candidates) {
      candidates.push_back({{"spec", candidate.spec}, {"bytes", candidate.bytes}, {"error", candidate.error}});
      if (candidate.us > 0) candidates.back()["us"] = candidate.us;
    }
    Json& made = layers.emplace_back(Json{{"name", layer.name}, {"count", layer.count}});
    if (!layer.shape.empty()) made["shape"] = layer.shape;
    if (layer.norm > 0) made["norm"] = layer.norm;
    if (layer.previous_norm > 0) made["previous_norm"] = layer.previous_norm;
    if (layer.ready_us > 0) made["ready_us"] = layer.ready_us;
    if (!layer.singular_values.empty()) made["singular_values"] = layer.singular_values;
    made["reference"] = layer.reference;
    made["candidates"] = std::move(candidates);
  }
  return dump(Json{{"layers", std::move(layers)}}, "table", 2);
}

std::string to_json(const Plan& plan) {
  Json json;
  if (!plan.policy.empty()) json["policy"] = plan.policy;
  json["layers"] = Json::array();
  for (const PlanLayer& layer : plan.layers) {
    json["layers"].push_back(
        {{"name", layer.name}, {"spec", layer.spec}, {"bytes", layer.bytes}, {"error", layer.error}});
  }
  json["bytes"] = plan.bytes;
  json["error"] = plan.error;
  json["squared_error"] = plan.squared_error;
  if (plan.exposed_ms > 0) json["exposed_ms"] = plan.exposed_ms;
  json["budget"] = plan.limit == PlanLimit::none ? Json() : Json(plan.budget);
  json["limit"] = name(plan.limit);
  if (plan.bound) json["bound"] = *plan.bound;
  json["solver_ms"] = plan.solver_ms;
  return dump(json, "plan", 2);
}

}  // namespace gradwire
