#pragma once
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

namespace gradwire::tools {

/// The command was called wrongly: unknown flag, missing or malformed value. Ends with exit code 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

/// Prints `failure` on standard error as "gradwire: error (<code name>): <message>", printable(), and returns the exit
/// code.
[[nodiscard]] int report_failure(const std::exception_ptr& failure) noexcept;

using Arguments = std::vector<std::string>;

/// The subcommands. Each takes what follows its name, prints on standard output and returns the exit code.
/// They throw UsageError, gradwire::Error, or what the standard library throws.
int run_info(const Arguments& arguments);
int run_perf(const Arguments& arguments);
int run_apply(const Arguments& arguments);
int run_plan(const Arguments& arguments);
int run_trace(const Arguments& arguments);
int run_report(const Arguments& arguments);

}  // namespace gradwire::tools
