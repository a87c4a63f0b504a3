#pragma once
#include <optional>
#include <string_view>

#include "actions.hpp"

#include "gradwire/plan.hpp"

namespace gradwire::tools {

inline constexpr std::string_view kPlanHelp =
    "Usage: gradwire plan table --candidates SPEC,SPEC,... [--reference SPEC] --out T.json --in GRADIENT.npy ...\n"
    "       gradwire plan table --candidates SPEC,SPEC,... [--reference SPEC] --out T.json --trace FILE [--step N]\n"
    "       gradwire plan solve --table T.json --policy SPEC [--out P.json]\n"
    "       gradwire plan compare TRACE [OPTIONS]\n"
    "       gradwire plan compare --table T.json [OPTIONS]\n"
    "       gradwire plan show P.json\n"
    "       gradwire plan diff A.json B.json\n\n"
    "A plan gives each layer one of the candidates that a table has for it (docs/planning.md).\n"
    "table measures the candidates on recorded gradients: a layer for each file (float32, .npy), named as it is, or "
    "all\n"
    "samples of a trace, of which errors are root mean squares and bytes means;\n"
    "solve makes a plan, compare shows what each policy makes of one trace, or of one table;\n"
    "show prints a plan, diff says what differs between two.\n\n";

/// The actions in files of their own.
int plan_table(const Arguments& arguments);
int plan_compare(const Arguments& arguments);

/// What `table` and `compare` measure, and how.
struct TraceQuestion {
  std::string path;
  std::vector<std::string> candidates;
  std::string reference;  ///< empty: of each layer its own
  std::optional<std::uint64_t> step;
};
/// The table, up to the last whole record; says on standard error where that is not the end. Errors name the file.
[[nodiscard]] Table measure(const TraceQuestion& question);

}  // namespace gradwire::tools
