#include "summary.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "fail.hpp"

namespace demo {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const gradwire::ParamReport& param) {
  return {{"name", param.name},
          {"compressor", param.compressor},
          {"rule", param.rule},
          {"count", param.count},
          {"residual_norm", param.residual_norm}};
}

Json to_json(const Summary& s) {
  Json json = {{"compressor", s.compressor},
               {"feedback", s.feedback},
               {"policy", s.policy},
               {"algorithm", s.algorithm},
               {"transport", s.transport},
               {"ranks", s.ranks},
               {"epochs", s.epochs},
               {"seed", s.seed},
               {"steps", s.steps},
               {"parameters", s.parameters},
               {"loss", s.loss},
               {"test_accuracy", s.test_accuracy},
               {"dense_bytes_per_step", s.dense_bytes_per_step},
               {"wire_bytes_per_step", s.wire_bytes_per_step},
               {"ratio", s.ratio()},
               {"seconds", s.seconds},
               {"exposed_seconds", s.exposed_seconds},
               {"encode_seconds", s.encode_seconds},
               {"decode_seconds", s.decode_seconds}};
  for (const gradwire::ParamReport& param : s.params) json["params"].push_back(to_json(param));
  if (!s.plan.layers.empty()) json["plan"] = Json::parse(gradwire::to_json(s.plan));
  return json;
}

Summary from_json(const Json& json) {
  Summary s;
  json.at("compressor").get_to(s.compressor);
  json.at("feedback").get_to(s.feedback);
  if (json.contains("policy")) json.at("policy").get_to(s.policy);
  json.at("transport").get_to(s.transport);
  json.at("ranks").get_to(s.ranks);
  json.at("epochs").get_to(s.epochs);
  json.at("seed").get_to(s.seed);
  json.at("steps").get_to(s.steps);
  json.at("parameters").get_to(s.parameters);
  json.at("loss").get_to(s.loss);
  json.at("test_accuracy").get_to(s.test_accuracy);
  json.at("dense_bytes_per_step").get_to(s.dense_bytes_per_step);
  json.at("wire_bytes_per_step").get_to(s.wire_bytes_per_step);
  json.at("seconds").get_to(s.seconds);
  json.at("exposed_seconds").get_to(s.exposed_seconds);
  return s;
}

}  // namespace

double Summary::ratio() const { return wire_bytes_per_step > 0 ? dense_bytes_per_step / wire_bytes_per_step : 1; }

std::string Summary::label() const {
  return compressor + (feedback == "none" ? "" : " + " + feedback) + (policy.empty() ? "" : ", " + policy);
}

void write_json(const Summary& summary, const std::string& path) {
  std::ofstream file(path);
  file << to_json(summary).dump(2) << '\n';
  file.close();
  require(file.good(), "cannot write {}", path);
}

Summary read_json(const std::string& path) {
  std::ifstream file(path);
  require(file.is_open(), "cannot open {}", path);
  try {
    return from_json(Json::parse(file));
  } catch (const Json::exception& error) {
    throw std::runtime_error(fmt::format("{} was not written by --json: {}", path, error.what()));
  }
}

void print_table(std::span<const Summary> summaries) {
  std::size_t width = 4;
  for (const Summary& s : summaries) width = std::max(width, s.label().size());
  fmt::print("{:<{}}  {:>6}  {:>10}  {:>12}  {:>11}  {:>6}  {:>8}  {:>9}\n", "", width, "", "test", "dense bytes",
             "wire bytes", "", "", "exposed");
  fmt::print("{:<{}}  {:>6}  {:>10}  {:>12}  {:>11}  {:>6}  {:>8}  {:>9}\n", "run", width, "loss", "accuracy %",
             "per step", "per step", "ratio", "seconds", "seconds");
  for (const Summary& s : summaries) {
    fmt::print("{:<{}}  {:>6.4f}  {:>10.2f}  {:>12.0f}  {:>11.0f}  {:>6.2f}  {:>8.1f}  {:>9.1f}\n", s.label(), width,
               s.loss, 100 * s.test_accuracy, s.dense_bytes_per_step, s.wire_bytes_per_step, s.ratio(), s.seconds,
               s.exposed_seconds);
  }
  const Summary& first = summaries.front();
  for (const Summary& s : summaries.subspan(1)) {
    fmt::print("\n{} against {}: accuracy {:+.2f} points, {:.2f} times fewer bytes, {:.2f} times as fast\n", s.label(),
               first.label(), 100 * (s.test_accuracy - first.test_accuracy),
               first.wire_bytes_per_step / s.wire_bytes_per_step, first.seconds / s.seconds);
  }
}

void print_plan(const Summary& summary) {
  if (summary.plan.layers.empty()) return;
  std::size_t names = 5;
  std::size_t specs = 10;
  for (const gradwire::PlanLayer& layer : summary.plan.layers) {
    names = std::max(names, layer.name.size());
    specs = std::max(specs, layer.spec.size());
  }
  fmt::print("\nThe plan at the end: bytes of a frame, and the share of the layer's gradient that it loses\n");
  fmt::print("{:<{}}  {:<{}}  {:>9}  {:>9}  {:>6}\n", "layer", names, "compressor", specs, "dense", "bytes", "loses");
  for (const gradwire::PlanLayer& layer : summary.plan.layers) {
    const auto row = std::find_if(summary.table.layers.begin(), summary.table.layers.end(),
                                  [&](const gradwire::TableLayer& of) { return of.name == layer.name; });
    const bool known = row != summary.table.layers.end();
    fmt::print("{:<{}}  {:<{}}  {:>9}  {:>9}  {:>6}\n", layer.name, names, layer.spec, specs,
               known ? fmt::format("{}", 4 * row->count) : "-", layer.bytes,
               known && row->norm > 0 ? fmt::format("{:.3f}", layer.error / row->norm) : "-");
  }
}

}  // namespace demo
