// `gradwire plan compare`: what each policy makes of one table.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

#include "arguments.hpp"
#include "compress/spec.hpp"
#include "plan/table.hpp"
#include "plan_actions.hpp"
#include "printable.hpp"

namespace gradwire::tools {
namespace {

namespace po = boost::program_options;
using Json = nlohmann::ordered_json;

/// A policy's plan, or why there is none.
struct Row {
  std::string policy;
  std::optional<Plan> plan;
  std::string reason;
};

struct Options {
  std::string table;  ///< where there is no trace
  TraceQuestion trace;
  std::vector<std::string> policies;  ///< empty: default_policies()
  std::string json;
};

std::string name_of(std::string_view policy) { return std::string(policy.substr(0, policy.find('('))); }

/// Each policy that there is, those with a budget under several; budgets of bytes and of time are uniform's.
std::vector<std::string> default_policies(const Plan& uniform) {
  std::vector<std::string> policies{"uniform",
                                    "lgreco(alpha=1)",
                                    "lgreco(alpha=2)",
                                    "lgreco(alpha=1,objective=time)",
                                    "budget(error=1)",
                                    "budget(error=1,norm=plain)",
                                    "budget(error=2)",
                                    fmt::format("budget(bytes={})", uniform.bytes),
                                    fmt::format("budget(bytes={})", uniform.bytes / 2),
                                    "fixed(q4)",
                                    "by_size(threshold=65536,small=q8,large=q4)",
                                    "global_topk",
                                    "cgx_linear",
                                    "cgx_kmeans"};
  if (uniform.exposed_ms > 0) policies.push_back(fmt::format("budget(ms={})", uniform.exposed_ms));
  std::set<std::string> names;
  for (const std::string& policy : policies) names.insert(name_of(policy));
  for (const PolicyInfo& info : list_policies())
    if (!names.contains(info.name)) policies.push_back(info.example);
  return policies;
}

Row evaluate(const std::string& policy, const Table& table) {
  try {
    return {policy, make_policy(policy).plan(table), ""};
  } catch (const Error& error) {
    return {policy, {}, fmt::format("{}: {}", name(error.code()), error.what())};
  }
}

std::vector<std::string> split_policies(const std::string& text) {
  std::vector<std::string> policies;
  for (const std::string_view part : split_stages(text, ';')) {
    const std::size_t first = part.find_first_not_of(' ');
    if (first == std::string_view::npos) throw UsageError("--policies: an empty policy");
    policies.emplace_back(part.substr(first, part.find_last_not_of(' ') + 1 - first));
    (void)make_policy(policies.back());  // what is no policy at all is said before anything is measured
  }
  return policies;
}

std::optional<Options> parse(const Arguments& arguments) {
  po::options_description description("Options of compare", 110, 70);
  auto add = description.add_options();
  add("help,h", "this text");
  add("table", text("T.json"), "a table, instead of a trace");
  add("candidates", text("SPECS"), "with commas between them; default: what a hook chooses from");
  add("reference", text("SPEC"), "what a uniform setting would take; default: what each layer has in the trace");
  add("step", text("N"), "the only step of the trace to look at");
  add("policies", text("P;P;..."), "with semicolons between them; default: all there are, and several budgets");
  add("json", text("FILE"), "where the rows go as JSON, too");
  const bool has_trace = !arguments.empty() && !arguments.front().starts_with('-');
  const Arguments rest(arguments.begin() + (has_trace ? 1 : 0), arguments.end());
  const auto given = parse_action(kPlanHelp, description, rest);
  if (!given) return {};
  const auto value = [&](const char* flag) { return given->count(flag) ? (*given)[flag].as<std::string>() : ""; };
  Options options;
  options.table = value("table");
  if (has_trace == (given->count("table") == 1))
    throw UsageError("compare takes a trace or a table: gradwire plan compare TRACE, or --table T.json");
  for (const char* const flag : {"candidates", "reference", "step"}) {
    if (!has_trace && given->count(flag)) throw UsageError(fmt::format("--{} goes with a trace", flag));
  }
  if (has_trace) {
    options.trace = {arguments.front(), default_candidates(), value("reference"), step_of(*given)};
    if (given->count("candidates")) options.trace.candidates = parse_specs("--candidates", value("candidates"));
  }
  if (given->count("policies")) options.policies = split_policies(value("policies"));
  if (given->count("json"))
    options.json = required_output(*given, "json", {has_trace ? options.trace.path : options.table});
  return options;
}

std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.2f} %", 100 * part / whole) : std::string("-");
}

void print(const std::vector<Row>& rows, const Plan& uniform) {
  const bool timed = uniform.exposed_ms > 0;
  std::vector<std::string> head{"policy", "bytes", "error", "squared error", "of uniform", "solver ms"};
  if (timed) head.emplace_back("exposed ms");
  std::vector<std::vector<std::string>> cells{head};
  for (const Row& row : rows) {
    if (!row.plan) continue;
    const Plan& plan = *row.plan;
    cells.push_back({row.policy, fmt::format("{}", plan.bytes), show_number(plan.error),
                     show_number(plan.squared_error),
                     percent(static_cast<double>(plan.bytes), static_cast<double>(uniform.bytes)),
                     fmt::format("{:.2f}", plan.solver_ms)});
    if (timed) cells.back().push_back(show_number(plan.exposed_ms));
  }
  print_columns(cells, head.size() - 1);
  for (const Row& row : rows)
    if (!row.plan) fmt::print("  {}: no plan: {}\n", printable(row.policy), printable(row.reason));
}

Json describe(const Options& options, const Table& table, const std::vector<Row>& rows, std::uint64_t uniform_bytes) {
  Json json;
  if (options.table.empty()) {
    json["trace"] = options.trace.path;
    json["candidates"] = options.trace.candidates;
    if (!options.trace.reference.empty()) json["reference"] = options.trace.reference;
    if (options.trace.step) json["step"] = *options.trace.step;
  } else {
    json["table"] = options.table;
  }
  json["layers"] = table.layers.size();
  json["uniform_bytes"] = uniform_bytes;
  json["rows"] = Json::array();
  for (const Row& row : rows) {
    Json& made = json["rows"].emplace_back(Json{{"policy", row.policy}});
    if (!row.plan) {
      made["reason"] = row.reason;
      continue;
    }
    made["bytes"] = row.plan->bytes;
    made["error"] = row.plan->error;
    made["squared_error"] = row.plan->squared_error;
    if (row.plan->exposed_ms > 0) made["exposed_ms"] = row.plan->exposed_ms;
    if (row.plan->limit != PlanLimit::none) {
      made["limit"] = name(row.plan->limit);
      made["budget"] = row.plan->budget;
    }
    if (row.plan->bound) made["bound"] = *row.plan->bound;
    made["solver_ms"] = row.plan->solver_ms;
  }
  return json;
}

}  // namespace

int plan_compare(const Arguments& arguments) {
  const std::optional<Options> options = parse(arguments);
  if (!options) return 0;
  const Table table = options->table.empty() ? measure(options->trace) : read_json(options->table, table_from_json);
  const Plan uniform = assemble(table, reference_of(table));
  std::vector<Row> rows;
  for (const std::string& policy : options->policies.empty() ? default_policies(uniform) : options->policies)
    rows.push_back(evaluate(policy, table));
  if (!options->json.empty()) write_text(options->json, describe(*options, table, rows, uniform.bytes).dump(2) + "\n");
  fmt::print("{} layers; bytes a step and rank, errors as in docs/planning.md\n", table.layers.size());
  print(rows, uniform);
  const bool any = std::any_of(rows.begin(), rows.end(), [](const Row& row) { return row.plan.has_value(); });
  return any ? 0 : kExitFailed;
}

}  // namespace gradwire::tools
