#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "command.hpp"

#include "gradwire/types.hpp"

namespace gradwire::tools {

/// What `gradwire perf` was asked to do.
struct PerfOptions {
  std::size_t min_bytes = 0;
  std::size_t max_bytes = 0;
  std::size_t step_bytes = 0;  ///< 0: multiply by step_factor instead
  std::size_t step_factor = 2;
  int iters = 20;
  int warmup_iters = 5;
  bool check = true;
  DType dtype = DType::f32;
  int ranks = 2;  ///< as threads; under MPI the launcher sets the number
  std::vector<std::string> specs;
  std::string algorithm;
  std::size_t segment_bytes = 0;
  std::chrono::milliseconds timeout{0};
  std::uint64_t seed = 0;
  std::string json_path;  ///< empty: no JSON

  /// Elements of every row's tensor, ascending.
  [[nodiscard]] std::vector<std::size_t> counts() const;
  /// The deadline of something that starts now.
  [[nodiscard]] Deadline deadline() const { return std::chrono::steady_clock::now() + timeout; }
};

/// Throws UsageError. Returns false when the help was asked for and printed.
[[nodiscard]] bool parse_perf_options(const Arguments& arguments, PerfOptions& options);

}  // namespace gradwire::tools
