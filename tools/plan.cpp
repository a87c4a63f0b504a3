// `gradwire plan`: plans out of tables, and what they are.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "plan_actions.hpp"
#include "printable.hpp"

namespace gradwire::tools {
namespace {

namespace po = boost::program_options;

void print_totals(const Plan& plan) {
  if (!plan.policy.empty()) fmt::print("policy: {}\n", printable(plan.policy));
  fmt::print("bytes: {}\n", plan.bytes);
  fmt::print("error: {} (sum), {} (sum of squares)\n", show_number(plan.error), show_number(plan.squared_error));
  if (plan.exposed_ms > 0) fmt::print("exposed: {} ms\n", show_number(plan.exposed_ms));
  if (plan.limit != PlanLimit::none) fmt::print("budget: {} ({})\n", show_number(plan.budget), name(plan.limit));
  if (plan.bound) {
    const bool of_squares = plan.limit == PlanLimit::bytes || plan.limit == PlanLimit::time;
    fmt::print("no plan has {} below {}", of_squares ? "a sum of squares" : "bytes", show_number(*plan.bound));
    if (const std::optional<double> share = gap(plan)) fmt::print(": gap {:.4f} %", 100 * *share);
    fmt::print("\n");
  }
}

int solve(const Arguments& arguments) {
  po::options_description description("Options of solve", 110, 70);
  auto add = description.add_options();
  add("help,h", "this text");
  add("table", text("T.json"), "the candidates of each layer");
  add("policy", text("SPEC"), "see gradwire info --policies");
  add("out", text("P.json"), "where the plan goes; without it, standard output");
  const auto given = parse_action(kPlanHelp, description, arguments);
  if (!given) return 0;
  const std::string table_path = required(*given, "table");
  const std::string out = given->count("out") ? required_output(*given, "out", {table_path}) : "";
  const Policy policy = make_policy(required(*given, "policy"));
  const Plan plan = policy.plan(read_json(table_path, table_from_json));
  const std::string json = to_json(plan) + "\n";
  if (out.empty()) {
    fmt::print("{}", json);
    return 0;
  }
  write_text(out, json);
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
  if (arguments.empty()) throw UsageError("plan what? table, solve, compare, show or diff");
  const std::string& action = arguments.front();
  const Arguments rest(arguments.begin() + 1, arguments.end());
  const auto help = [] {
    fmt::print("{}", kPlanHelp);
    return 0;
  };
  if (action == "--help" || action == "-h") return help();
  for (const std::string& argument : rest) {
    const bool has_options = action == "solve" || action == "table" || action == "compare";
    if (!has_options && (argument == "--help" || argument == "-h")) return help();
    if (!has_options && argument.starts_with('-')) throw UsageError(fmt::format("unknown option '{}'", argument));
  }
  if (action == "table") return plan_table(rest);
  if (action == "compare") return plan_compare(rest);
  if (action == "solve") return solve(rest);
  if (action == "show") return show(rest);
  if (action == "diff") return diff(rest);
  throw UsageError(fmt::format("unknown action '{}': expected table, solve, compare, show or diff", action));
}

}  // namespace gradwire::tools
