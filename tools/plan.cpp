#include "gradwire/plan.hpp"

#include <boost/program_options/value_semantic.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>

#include "arguments.hpp"
#include "atomic_file.hpp"
#include "base/fail.hpp"
#include "command.hpp"
#include "npy.hpp"

namespace gradwire::tools {
namespace {

namespace po = boost::program_options;

constexpr std::string_view kHelp =
    "Usage: gradwire plan table --candidates SPEC,SPEC,... [--reference SPEC] --out T.json --in GRADIENT.npy ...\n"
    "       gradwire plan solve --table T.json --policy SPEC [--out P.json]\n"
    "       gradwire plan show P.json\n"
    "       gradwire plan diff A.json B.json\n\n"
    "A plan gives each layer one of the candidates that a table has for it (docs/planning.md).\n"
    "table measures the candidates on recorded gradients, a layer for each file (float32, .npy), named as it is;\n"
    "solve makes a plan, show prints one, diff says what differs between two.\n\n";

std::string read_text(const std::string& path) {
  require(std::filesystem::exists(path), "cannot read {}: no such file", path);
  require(!std::filesystem::is_directory(path), "cannot read {}: a directory", path);
  const std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file.is_open()) text << file.rdbuf();
  require(file.is_open() && !file.bad(), "cannot read {}: {}", path, std::strerror(errno));
  return text.str();
}

/// What `parse` makes of the file; its errors name the file.
template <class Result>
Result read_json(const std::string& path, Result (*parse)(std::string_view)) {
  const std::string text = read_text(path);
  try {
    return parse(text);
  } catch (const Error& error) {
    fail(error.code(), "{}: {}", path, error.what());
  }
}

std::string show_number(double value) { return fmt::format("{:.6g}", value); }

/// Columns as wide as their widest cell, the first ones to the left, the last `right` ones to the right.
void print_columns(const std::vector<std::vector<std::string>>& rows, std::size_t right) {
  std::vector<std::size_t> widths(rows.front().size());
  for (const std::vector<std::string>& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  for (const std::vector<std::string>& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const bool to_right = i + right >= row.size();
      line += to_right ? fmt::format("  {:>{}}", row[i], widths[i]) : fmt::format("  {:<{}}", row[i], widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  }
}

void print_totals(const Plan& plan) {
  if (!plan.policy.empty()) fmt::print("policy: {}\n", plan.policy);
  fmt::print("bytes: {}\n", plan.bytes);
  fmt::print("error: {} (sum), {} (sum of squares)\n", show_number(plan.error), show_number(plan.squared_error));
  if (plan.exposed_ms > 0) fmt::print("exposed: {} ms\n", show_number(plan.exposed_ms));
  if (plan.limit != PlanLimit::none) fmt::print("budget: {} ({})\n", show_number(plan.budget), name(plan.limit));
  if (plan.bound) {
    const bool least_squares = plan.limit == PlanLimit::bytes || plan.limit == PlanLimit::time;
    const double value = least_squares ? plan.squared_error : static_cast<double>(plan.bytes);
    fmt::print("no plan has {} below {}", least_squares ? "a sum of squares" : "bytes", show_number(*plan.bound));
    if (*plan.bound > 0) fmt::print(": gap {:.4f} %", std::max(0.0, 100 * (value / *plan.bound - 1)));
    fmt::print("\n");
  }
}

void write_text(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.close();
  file.commit();
}

/// What an action was given; nothing where help was asked for, and printed.
std::optional<po::variables_map> parse(const po::options_description& description, const Arguments& arguments) {
  const po::variables_map given = parse_arguments(description, arguments);
  if (!given.count("help")) return given;
  std::ostringstream out;
  out << kHelp << description;
  fmt::print("{}", out.str());
  return {};
}

std::string required(const po::variables_map& given, const char* flag) {
  if (!given.count(flag)) throw UsageError(fmt::format("--{} is missing", flag));
  return given[flag].as<std::string>();
}

po::typed_value<std::string>* text(const char* value_name) { return po::value<std::string>()->value_name(value_name); }

int table(const Arguments& arguments) {
  po::options_description description("Options of table", 110, 70);
  auto add = description.add_options();
  add("help,h", "this text");
  add("candidates", text("SPECS"), "compressors, with commas between them");
  add("reference", text("SPEC"), "the one of them that a uniform setting would take; default: the first");
  add("out", text("T.json"), "where the table goes");
  add("in", po::value<std::vector<std::string>>()->multitoken()->value_name("FILE ..."), "one .npy file a layer");
  const auto given = parse(description, arguments);
  if (!given) return 0;
  const std::vector<std::string> specs = parse_specs("--candidates", required(*given, "candidates"));
  const std::string wanted = given->count("reference") ? (*given)["reference"].as<std::string>() : specs.front();
  const auto reference = std::find(specs.begin(), specs.end(), wanted);
  if (reference == specs.end()) throw UsageError(fmt::format("--reference {} is none of the candidates", wanted));
  if (!given->count("in")) throw UsageError("--in is missing");
  const std::string out = required(*given, "out");
  Table made;
  for (const std::string& path : (*given)["in"].as<std::vector<std::string>>()) {
    const NpyArray array = read_npy(path);
    const LayerSample sample{std::filesystem::path(path).stem().string(), array.tensor(), array.shape, {}};
    made.layers.push_back(measure_layer(sample, specs, static_cast<std::size_t>(reference - specs.begin())));
  }
  check(made);
  write_text(out, to_json(made) + "\n");
  fmt::print("{} layers, {} candidates each\n", made.layers.size(), specs.size());
  return 0;
}

int solve(const Arguments& arguments) {
  po::options_description description("Options of solve", 110, 70);
  auto add = description.add_options();
  add("help,h", "this text");
  add("table", text("T.json"), "the candidates of each layer");
  add("policy", text("SPEC"), "see gradwire info --policies");
  add("out", text("P.json"), "where the plan goes; without it, standard output");
  const auto given = parse(description, arguments);
  if (!given) return 0;
  const std::string table_path = required(*given, "table");
  const Policy policy = make_policy(required(*given, "policy"));
  const Plan plan = policy.plan(read_json(table_path, table_from_json));
  const std::string json = to_json(plan) + "\n";
  if (!given->count("out")) {
    fmt::print("{}", json);
    return 0;
  }
  write_text((*given)["out"].as<std::string>(), json);
  print_totals(plan);
  fmt::print("solved in {:.2f} ms\n", plan.solver_ms);
  return 0;
}

int show(const Arguments& arguments) {
  if (arguments.size() != 1) throw UsageError("show takes one plan: gradwire plan show P.json");
  const Plan plan = read_json(arguments[0], plan_from_json);
  std::vector<std::vector<std::string>> rows{{"layer", "spec", "bytes", "% of bytes", "error", "% of squares"}};
  const auto share = [](double part, double whole) {
    return whole > 0 ? fmt::format("{:.2f}", 100 * part / whole) : "-";
  };
  for (const PlanLayer& layer : plan.layers) {
    rows.push_back({layer.name, layer.spec, fmt::format("{}", layer.bytes),
                    share(static_cast<double>(layer.bytes), static_cast<double>(plan.bytes)), show_number(layer.error),
                    share(layer.error * layer.error, plan.squared_error)});
  }
  print_columns(rows, 4);
  print_totals(plan);
  return 0;
}

std::string change(double from, double to) {
  if (from == to) return "same";
  const std::string share = from > 0 ? fmt::format(" ({:+.2f} %)", 100 * (to / from - 1)) : "";
  return fmt::format("{} -> {}{}", from, to, share);
}

int diff(const Arguments& arguments) {
  if (arguments.size() != 2) throw UsageError("diff takes two plans: gradwire plan diff A.json B.json");
  const Plan a = read_json(arguments[0], plan_from_json);
  const Plan b = read_json(arguments[1], plan_from_json);
  std::map<std::string, const PlanLayer*> in_b;
  for (const PlanLayer& layer : b.layers) in_b[layer.name] = &layer;

  std::vector<std::vector<std::string>> rows{{"layer", "from", "to", "bytes", "error"}};
  std::size_t same_spec = 0;
  for (const PlanLayer& from : a.layers) {
    const auto found = in_b.find(from.name);
    if (found == in_b.end()) {
      rows.push_back({from.name, from.spec, "-", fmt::format("{:+}", -static_cast<std::int64_t>(from.bytes)), ""});
      continue;
    }
    const PlanLayer& to = *found->second;
    const auto bytes = static_cast<std::int64_t>(to.bytes) - static_cast<std::int64_t>(from.bytes);
    if (from.spec != to.spec) {
      rows.push_back(
          {from.name, from.spec, to.spec, fmt::format("{:+}", bytes), fmt::format("{:+.6g}", to.error - from.error)});
    } else if (bytes != 0 || from.error != to.error) {
      ++same_spec;
    }
    in_b.erase(found);
  }
  for (const PlanLayer& layer : b.layers) {
    if (in_b.count(layer.name)) rows.push_back({layer.name, "-", layer.spec, fmt::format("+{}", layer.bytes), ""});
  }
  if (rows.size() == 1 && same_spec == 0) {
    fmt::print("the plans give {} layers the same\n", a.layers.size());
    return 0;
  }
  if (rows.size() > 1) print_columns(rows, 2);
  fmt::print("{} of {} layers differ\n", rows.size() - 1, std::max(a.layers.size(), b.layers.size()));
  if (same_spec > 0) fmt::print("{} layers keep their spec at other bytes or another error\n", same_spec);
  fmt::print("bytes: {}\n", change(static_cast<double>(a.bytes), static_cast<double>(b.bytes)));
  fmt::print("error: {}\n", change(a.error, b.error));
  fmt::print("squared error: {}\n", change(a.squared_error, b.squared_error));
  if (a.exposed_ms > 0 && b.exposed_ms > 0) fmt::print("exposed ms: {}\n", change(a.exposed_ms, b.exposed_ms));
  return 0;
}

}  // namespace

int run_plan(const Arguments& arguments) {
  if (arguments.empty()) throw UsageError("plan what? table, solve, show or diff");
  const std::string& action = arguments.front();
  const Arguments rest(arguments.begin() + 1, arguments.end());
  if (action == "--help" || action == "-h") return solve({"--help"});
  for (const std::string& argument : rest) {
    const bool has_options = action == "solve" || action == "table";
    if (!has_options && (argument == "--help" || argument == "-h")) return solve({"--help"});
    if (!has_options && argument.starts_with('-')) throw UsageError(fmt::format("unknown option '{}'", argument));
  }
  if (action == "table") return table(rest);
  if (action == "solve") return solve(rest);
  if (action == "show") return show(rest);
  if (action == "diff") return diff(rest);
  throw UsageError(fmt::format("unknown action '{}': expected table, solve, show or diff", action));
}

}  // namespace gradwire::tools
