#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "gradwire/hook.hpp"

namespace demo {

/// What one training came to.
struct Summary {
  std::string compressor;
  std::string feedback;
  std::string algorithm;
  std::string transport;
  int ranks = 0;
  int epochs = 0;
  std::uint64_t seed = 0;
  std::uint64_t steps = 0;
  std::uint64_t parameters = 0;
  double loss = 0;                  ///< mean cross-entropy over the last epoch, all ranks
  double test_accuracy = 0;         ///< fraction, 0 to 1
  double dense_bytes_per_step = 0;  ///< these and the times below are means over ranks
  double wire_bytes_per_step = 0;
  double seconds = 0;
  double exposed_seconds = 0;
  double encode_seconds = 0;
  double decode_seconds = 0;
  std::vector<gradwire::ParamReport> params;  ///< rank 0's
  std::string policy;                         ///< empty: none
  gradwire::Plan plan;                        ///< at the end; no layers where none was made
  gradwire::Table table;                      ///< that it was made from

  /// Dense bytes over wire bytes; 1 for a single rank, which sends nothing.
  [[nodiscard]] double ratio() const;
  /// "dense", "q4 + ef".
  [[nodiscard]] std::string label() const;
};

/// Throws std::runtime_error naming the file when it cannot be written.
void write_json(const Summary& summary, const std::string& path);
/// The figures of the table, from a file that write_json() wrote. Throws std::runtime_error naming file and key.
[[nodiscard]] Summary read_json(const std::string& path);

/// One line a summary on standard output; where there are several, each is compared to the first.
void print_table(std::span<const Summary> summaries);
/// What each layer had at the end; nothing where there was no plan.
void print_plan(const Summary& summary);

}  // namespace demo
