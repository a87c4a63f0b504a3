#pragma once
#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "perf_options.hpp"

#include "gradwire/transport.hpp"

namespace gradwire::tools {

/// Of one time per iteration.
struct Spread {
  double median_us = 0, min_us = 0, max_us = 0, p10_us = 0, p90_us = 0;
};
[[nodiscard]] Spread spread_of(std::vector<double> times_us);

/// One row of the table: one size, one compressor.
struct PerfRow {
  std::size_t count = 0;
  DType dtype = DType::f32;
  int ranks = 1;
  std::string compressor;  ///< as asked for
  std::string spec;        ///< canonical
  std::string algorithm;
  Spread time, dense_time;
  double encode_us = 0, decode_us = 0;
  std::uint64_t wire_bytes = 0;
  std::size_t workspace_bytes = 0;
  bool checked = false;
  double rel_error = 0;
  std::uint64_t wrong = 0, dense_wrong = 0;

  [[nodiscard]] double bytes() const { return static_cast<double>(count * size_of(dtype)); }
  /// 2(n-1)/n: the share of a tensor that a rank of an optimal dense allreduce sends.
  [[nodiscard]] double bus_factor() const { return 2.0 * (ranks - 1) / ranks; }
  [[nodiscard]] double speedup() const { return time.median_us > 0 ? dense_time.median_us / time.median_us : 0; }
  [[nodiscard]] double algbw() const { return time.median_us > 0 ? bytes() / time.median_us * 1e-3 : 0; }
  [[nodiscard]] double busbw() const { return algbw() * bus_factor(); }
  /// 1 where nothing is sent (one rank).
  [[nodiscard]] double ratio() const {
    return wire_bytes > 0 ? bytes() * bus_factor() / static_cast<double>(wire_bytes) : 1.0;
  }
};

/// Which process a rank is.
struct RankPlace {
  char host[64] = {};
  int pid = 0;
};

/// What rank 0 prints: lines starting with '#' and one line a row, in the manner of nccl-tests.
class PerfTable {
 public:
  explicit PerfTable(const PerfOptions& options);
  void print_preamble(const TransportInfo& transport, const std::vector<RankPlace>& places) const;
  void print_row(const PerfRow& row) const;
  /// Returns the number of wrong elements of all rows.
  std::uint64_t print_footer(const std::vector<PerfRow>& rows) const;

 private:
  const PerfOptions& options_;
  std::size_t compressor_width_ = 10;
};

/// The rows for `--json`: an array of objects.
[[nodiscard]] nlohmann::ordered_json to_json(const std::vector<PerfRow>& rows);

}  // namespace gradwire::tools
