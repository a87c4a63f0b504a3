#include <fmt/format.h>

#include <array>
#include <string_view>

#include "command.hpp"

#include "gradwire/version.hpp"

namespace gradwire::tools {
namespace {

struct Subcommand {
  std::string_view name;
  std::string_view summary;
  int (*run)(const Arguments&);
};

constexpr std::array kSubcommands{
    Subcommand{"info", "what this build has: compressors, algorithms, rules, policies, transports, environment",
               run_info},
    Subcommand{"perf", "time compressed allreduce beside the dense one, as nccl-tests does", run_perf},
    Subcommand{"apply", "what a compressor does to an array of your own (.npy)", run_apply},
    Subcommand{"plan", "which compressor for each layer: tables, plans, policies side by side", run_plan},
    Subcommand{"trace", "gradients of real runs: record, look into, import and export", run_trace},
    Subcommand{"report", "a training run's log as a page: layers, error, bytes, times", run_report},
};

std::string help() {
  std::string text = "Usage: gradwire SUBCOMMAND [OPTIONS]\n\nSubcommands:\n";
  for (const Subcommand& subcommand : kSubcommands) {
    text += fmt::format("  {:<8}{}\n", subcommand.name, subcommand.summary);
  }
  return text +
         "\nOptions:\n"
         "  --help      this text; 'gradwire SUBCOMMAND --help' for a subcommand's options\n"
         "  --version   version\n"
         "\nExit codes: 0 success, 1 failure, 2 a command line that cannot be read.\n";
}

int dispatch(const Arguments& arguments) {
  if (arguments.empty()) throw UsageError("no subcommand given");
  const std::string& first = arguments.front();
  if (first == "--help" || first == "-h" || first == "help") {
    fmt::print("{}", help());
    return 0;
  }
  if (first == "--version") {
    fmt::print("gradwire {}\n", GRADWIRE_VERSION);
    return 0;
  }
  for (const Subcommand& subcommand : kSubcommands) {
    if (subcommand.name == first) return subcommand.run({arguments.begin() + 1, arguments.end()});
  }
  throw UsageError(fmt::format("unknown {} '{}'", first.starts_with('-') ? "option" : "subcommand", first));
}

}  // namespace

}  // namespace gradwire::tools

int main(int argc, char** argv) {
  try {
    return gradwire::tools::dispatch({argv + 1, argv + argc});
  } catch (...) {
    return gradwire::tools::report_failure(std::current_exception());
  }
}
