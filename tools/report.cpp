#include <boost/program_options/value_semantic.hpp>
#include <fmt/format.h>

#include "actions.hpp"
#include "command.hpp"
#include "report/page.hpp"

namespace gradwire::tools {
namespace {

namespace po = boost::program_options;

constexpr std::string_view kHelp =
    "Usage: gradwire report RUN.json -o REPORT.html\n\n"
    "Draws what a training run did into one page: what compressor each layer had, error against the budget, bytes,\n"
    "times, plans. RUN.json is what RunLog writes (docs/report.md). The page needs no network and no other file.\n\n";

}  // namespace

int run_report(const Arguments& arguments) {
  po::options_description description("Options of report", 110, 70);
  auto add = description.add_options();
  add("help,h", "this text");
  add("out,o", text("REPORT.html"), "where the page goes");
  const bool has_run = !arguments.empty() && !arguments.front().starts_with('-');
  const auto given = parse_action(kHelp, description, {arguments.begin() + (has_run ? 1 : 0), arguments.end()});
  if (!given) return 0;
  if (!has_run) throw UsageError("which run? gradwire report RUN.json -o REPORT.html");
  const std::string out = required_output(*given, "out", {arguments.front()});
  const report::Run run = read_json(arguments.front(), report::read_run);
  const std::string page = report::page(run);
  write_text(out, page);
  fmt::print("{}: {} steps, {} plans, {} bytes\n", out, run.totals.steps, run.plans.size(), page.size());
  return 0;
}

}  // namespace gradwire::tools
