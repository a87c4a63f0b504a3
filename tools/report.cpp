#include <boost/program_options/value_semantic.hpp>
#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "arguments.hpp"
#include "atomic_file.hpp"
#include "base/fail.hpp"
#include "command.hpp"
#include "report/page.hpp"

namespace gradwire::tools {
namespace {

namespace po = boost::program_options;

constexpr std::string_view kHelp =
    "Usage: gradwire report RUN.json -o REPORT.html\n\n"
    "Draws what a training run did into one page: what compressor each layer had, error against the budget, bytes,\n"
    "times, plans. RUN.json is what RunLog writes (docs/report.md). The page needs no network and no other file.\n\n";

std::string read_text(const std::string& path) {
  require(!std::filesystem::is_directory(path), "cannot read {}: a directory", path);
  const std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file.is_open()) text << file.rdbuf();
  require(file.is_open() && !file.bad(), "cannot read {}: {}", path, std::strerror(errno));
  return text.str();
}

report::Run read(const std::string& path) {
  const std::string text = read_text(path);
  try {
    return report::read_run(text);
  } catch (const Error& error) {
    fail(error.code(), "{}: {}", path, error.what());
  }
}

}  // namespace

int run_report(const Arguments& arguments) {
  po::options_description description("Options of report", 110, 70);
  auto add = description.add_options();
  add("help,h", "this text");
  add("out,o", po::value<std::string>()->value_name("REPORT.html"), "where the page goes");
  const bool has_run = !arguments.empty() && !arguments.front().starts_with('-');
  const auto given = parse_arguments(description, {arguments.begin() + (has_run ? 1 : 0), arguments.end()});
  if (given.count("help")) {
    std::ostringstream out;
    out << kHelp << description;
    fmt::print("{}", out.str());
    return 0;
  }
  if (!has_run) throw UsageError("which run? gradwire report RUN.json -o REPORT.html");
  if (!given.count("out")) throw UsageError("--out is missing");
  const std::string out = given["out"].as<std::string>();
  const report::Run run = read(arguments.front());
  const std::string page = report::page(run);
  AtomicFile file(out);
  file.write(page.data(), page.size());
  file.close();
  file.commit();
  fmt::print("{}: {} steps, {} plans, {} bytes\n", out, run.totals.steps, run.plans.size(), page.size());
  return 0;
}

}  // namespace gradwire::tools
