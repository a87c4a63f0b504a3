// What each policy makes of the layers of published models, with gradients that are drawn (synthetic_table.hpp):
//
//     synthetic_bench [--model NAME...] [--policy SPEC...] [--seed N] [--gbit F] [--repeat N] [--json FILE]
//
// Columns: bytes of the plan, f32 bytes over them; sum of errors and root of the sum of squares, over the reference's;
// what is exposed; wall time of the policy. Then how far it can be from the best, in %, by bounds that `budget` proves:
//
//     own      of what the policy minimises under its own limit, where it has a bound
//     bytes    bytes over the fewest with the same sum of errors
//     squares  squared error over the least with the same bytes
//
// Bounds are proven, not hoped to be reached: the true distance may be smaller.
#include <boost/program_options.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <stdexcept>

#include "models.hpp"
#include "synthetic_table.hpp"

namespace gradwire::adaptive {
namespace {

namespace po = boost::program_options;
using Json = nlohmann::ordered_json;

constexpr double kRounding = 1e-12;

struct Settings {
  std::vector<std::string> models;
  std::vector<std::string> policies;
  std::uint64_t seed = 1;
  double gbit = 2.5;
  int repeat = 5;
};

struct Row {
  Plan plan;
  double solver_ms;
  double own_gap;  ///< NaN where nothing is proven
  double bytes_gap;
  double squares_gap;
};

/// Share by which `value` is above what is proven to be the least, in %.
double percent_above(double value, double bound) {
  return bound > 0 ? std::max(0.0, 100 * (value / bound - 1)) : std::nan("");
}

/// Limits of `budget` that the reference has: policies are compared under the same.
std::vector<std::string> default_policies(const Plan& reference) {
  return {"uniform",
          "lgreco",
          "budget(error=1,norm=plain)",
          "budget(error=1)",
          fmt::format("budget(bytes={})", reference.bytes),
          fmt::format("spectral(bytes={})", reference.bytes),
          "global_topk",
          "cgx_linear(low=2,high=8)",
          "cgx_kmeans(low=2,high=8)",
          "legacy(large=q2,small=q6)",
          "accordion(low=q2,high=q6)",
          "accordion(low=q2,high=q6,policy=lgreco)",
          "lgreco(objective=time)",
          fmt::format("budget(ms={})", std::ceil(reference.exposed_ms))};
}

Row measure(const Table& table, const Plan& reference, const std::string& spec, int repeat) {
  const Policy policy = make_policy(spec);
  Row row{policy.plan(table), 0, std::nan(""), std::nan(""), std::nan("")};
  std::vector<double> ms{row.plan.solver_ms};
  while (static_cast<int>(ms.size()) < repeat) ms.push_back(policy.plan(table).solver_ms);
  std::sort(ms.begin(), ms.end());
  row.solver_ms = ms[ms.size() / 2];

  const Plan& plan = row.plan;
  if (const std::optional<double> share = gap(plan)) row.own_gap = 100 * *share;
  const double share = plan.error / reference.error * (1 + kRounding);
  row.bytes_gap = percent_above(static_cast<double>(plan.bytes),
                                *make_policy(fmt::format("budget(error={},norm=plain)", share)).plan(table).bound);
  row.squares_gap =
      percent_above(plan.squared_error, *make_policy(fmt::format("budget(bytes={})", plan.bytes)).plan(table).bound);
  return row;
}

Json as_json(const Row& row, const std::string& model, double dense_bytes) {
  const auto number = [](double value) { return std::isnan(value) ? Json() : Json(value); };
  const Plan& plan = row.plan;
  return {{"model", model},
          {"policy", plan.policy},
          {"bytes", plan.bytes},
          {"ratio", dense_bytes / static_cast<double>(plan.bytes)},
          {"error", plan.error},
          {"squared_error", plan.squared_error},
          {"exposed_ms", plan.exposed_ms},
          {"solver_ms", row.solver_ms},
          {"own_gap", number(row.own_gap)},
          {"bytes_gap", number(row.bytes_gap)},
          {"squares_gap", number(row.squares_gap)}};
}

Json run(const Model& model, const Settings& settings) {
  const Table table = synthetic_table(model, settings.seed, settings.gbit);
  double dense_bytes = 0;
  for (const TableLayer& layer : table.layers) dense_bytes += 4 * static_cast<double>(layer.count);
  const Plan reference = make_policy("uniform").plan(table);
  fmt::print("{}: {} matrices, {:.1f} MB as f32, {} Gbit/s, seed {}, median of {}\n", model.name, table.layers.size(),
             dense_bytes / 1e6, settings.gbit, settings.seed, settings.repeat);
  fmt::print("{:<42} {:>8} {:>7} {:>7} {:>8} {:>9} {:>9} {:>8} {:>8} {:>8}\n", "policy", "MB", "ratio", "error",
             "root sq.", "exposed", "solver", "own %", "bytes %", "squares %");
  Json rows = Json::array();
  for (const std::string& spec : settings.policies.empty() ? default_policies(reference) : settings.policies) {
    const Row row = measure(table, reference, spec, settings.repeat);
    const Plan& plan = row.plan;
    const auto percent = [](double share) {
      return std::isnan(share) ? std::string("-") : fmt::format("{:.3f}", share);
    };
    fmt::print("{:<42} {:>8.3f} {:>7.1f} {:>7.3f} {:>8.3f} {:>6.1f} ms {:>6.2f} ms {:>8} {:>8} {:>8}\n", spec,
               static_cast<double>(plan.bytes) / 1e6, dense_bytes / static_cast<double>(plan.bytes),
               plan.error / reference.error, std::sqrt(plan.squared_error / reference.squared_error), plan.exposed_ms,
               row.solver_ms, percent(row.own_gap), percent(row.bytes_gap), percent(row.squares_gap));
    rows.push_back(as_json(row, model.name, dense_bytes));
  }
  fmt::print("\n");
  return rows;
}

int run(int argc, char** argv) {
  Settings settings;
  std::string path;
  po::options_description flags("Options");
  auto add = flags.add_options();
  add("help,h", "this text");
  add("model", po::value(&settings.models)->multitoken()->value_name("NAME ..."),
      "resnet50, transformer_xl_base, bert_base, gpt2_medium; default: all");
  add("policy", po::value(&settings.policies)->multitoken()->value_name("SPEC ..."), "instead of all kinds of them");
  add("seed", po::value(&settings.seed)->default_value(1), "of the drawn gradients");
  add("gbit", po::value(&settings.gbit)->default_value(2.5), "of the wire, in Gbit/s");
  add("repeat", po::value(&settings.repeat)->default_value(5), "how often each policy is timed");
  add("json,J", po::value(&path), "also write all rows to this file");
  po::variables_map given;
  po::store(po::parse_command_line(argc, argv, flags), given);
  if (given.count("help")) {
    std::cout << "What each policy makes of published models' layers, with drawn gradients.\n" << flags;
    return 0;
  }
  po::notify(given);
  if (!(settings.gbit >= 1e-3 && settings.gbit <= 1e6)) throw po::error("--gbit accepts 0.001..1000000");
  std::vector<Model> chosen;
  for (const Model& model : models()) {
    const auto wanted = std::find(settings.models.begin(), settings.models.end(), model.name);
    if (settings.models.empty() || wanted != settings.models.end()) chosen.push_back(model);
  }
  if (chosen.size() < settings.models.size()) throw po::error("unknown model, accepted: see --help");
  Json rows = Json::array();
  for (const Model& model : chosen)
    for (Json& row : run(model, settings)) rows.push_back(std::move(row));
  if (path.empty()) return 0;
  std::ofstream file(path);
  file << Json{{"seed", settings.seed}, {"gbit", settings.gbit}, {"rows", rows}}.dump(2) << '\n';
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path);
  return 0;
}

}  // namespace
}  // namespace gradwire::adaptive

int main(int argc, char** argv) {
  try {
    return gradwire::adaptive::run(argc, argv);
  } catch (const boost::program_options::error& error) {
    fmt::print(stderr, "synthetic_bench: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "synthetic_bench: {}\n", error.what());
    return 1;
  }
}
