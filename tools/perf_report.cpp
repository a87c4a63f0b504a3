#include "perf_report.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "compress/isa.hpp"

#include "gradwire/version.hpp"

namespace gradwire::tools {
namespace {

/// Of sorted values, interpolated.
double quantile(const std::vector<double>& sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  const double weight = place - static_cast<double>(below);
  return sorted[below] * (1 - weight) + sorted[above] * weight;
}

/// Four significant digits, as far as they fit `width`.
std::string number(double value, int width) {
  const int digits = value >= 1000 ? 0 : value >= 100 ? 1 : value >= 10 ? 2 : 3;
  return fmt::format("{:>{}.{}f}", value, width, digits);
}

}  // namespace

Spread spread_of(std::vector<double> times_us) {
  if (times_us.empty()) return {};
  std::sort(times_us.begin(), times_us.end());
  return {quantile(times_us, 0.5), times_us.front(), times_us.back(), quantile(times_us, 0.1), quantile(times_us, 0.9)};
}

PerfTable::PerfTable(const PerfOptions& options) : options_(options) {
  for (const std::string& spec : options.specs) compressor_width_ = std::max(compressor_width_, spec.size());
}

void PerfTable::print_preamble(const TransportInfo& transport, const std::vector<RankPlace>& places) const {
  const PerfOptions& o = options_;
  const std::string step =
      o.step_bytes > 0 ? fmt::format("{}(bytes)", o.step_bytes) : fmt::format("{}(factor)", o.step_factor);
  fmt::print("# gradwire version {}\n# Collective test starting: gradwire perf\n", GRADWIRE_VERSION);
  fmt::print("# nRanks {} minBytes {} maxBytes {} step: {} warmup iters: {} iters: {} validation: {} type: {}\n",
             transport.size, o.min_bytes, o.max_bytes, step, o.warmup_iters, o.iters, o.check ? 1 : 0, name(o.dtype));
  fmt::print("# compressors: {} algorithm: {} segment: {} seed: {} timeout: {} s\n", fmt::join(o.specs, ","),
             o.algorithm, o.segment_bytes > 0 ? fmt::format("{}", o.segment_bytes) : "default", o.seed,
             static_cast<double>(o.timeout.count()) / 1000);
  fmt::print("# transport: {}{}\n# ISA: {}\n#\n# Using ranks\n", transport.name,
             transport.detail.empty() ? "" : " (" + transport.detail + ")", isa::current());
  for (std::size_t rank = 0; rank < places.size(); ++rank) {
    fmt::print("#  Rank {:>3} Pid {:>7} on {}\n", rank, places[rank].pid, places[rank].host);
  }
  const int width = static_cast<int>(compressor_width_);
  fmt::print("#\n# {:>11} {:>12} {:>5}  {:<{}} {:<14} {:>10} {:>10}\n", "", "", "", "", width, "", "compressed",
             "dense");
  fmt::print("# {:>11} {:>12} {:>5}  {:<{}} {:<14} {:>10} {:>10} {:>8} {:>8} {:>8} {:>12} {:>8} {:>10} {:>7}\n", "size",
             "count", "type", "compressor", width, "algorithm", "time", "time", "speedup", "algbw", "busbw",
             "wire bytes", "ratio", "rel error", "#wrong");
  fmt::print("# {:>11} {:>12} {:>5}  {:<{}} {:<14} {:>10} {:>10} {:>8} {:>8} {:>8} {:>12}\n", "(B)", "(elements)", "",
             "", width, "", "(us)", "(us)", "(x)", "(GB/s)", "(GB/s)", "(B/rank)");
  std::fflush(stdout);
}

void PerfTable::print_row(const PerfRow& row) const {
  fmt::print("  {:>11} {:>12} {:>5}  {:<{}} {:<14} {} {} {:>8.2f} {:>8.2f} {:>8.2f} {:>12} {:>8.2f} {:>10} {:>7}\n",
             row.count * size_of(row.dtype), row.count, name(row.dtype), row.compressor, compressor_width_,
             row.algorithm, number(row.time.median_us, 10), number(row.dense_time.median_us, 10), row.speedup(),
             row.algbw(), row.busbw(), row.wire_bytes, row.ratio(),
             row.checked ? fmt::format("{:.3e}", row.rel_error) : "N/A",
             row.checked ? fmt::format("{}", row.wrong + row.dense_wrong) : "N/A");
  std::fflush(stdout);
}

std::uint64_t PerfTable::print_footer(const std::vector<PerfRow>& rows) const {
  std::uint64_t wrong = 0;
  double busbw = 0;
  for (const PerfRow& row : rows) {
    wrong += row.wrong + row.dense_wrong;
    busbw += row.busbw() / static_cast<double>(rows.size());
  }
  if (options_.check) {
    fmt::print("# Out of bounds values : {} {}\n", wrong, wrong == 0 ? "OK" : "FAILED");
  } else {
    fmt::print("# Out of bounds values : not checked\n");
  }
  fmt::print("# Avg bus bandwidth    : {:.4g}\n#\n# Collective test concluded: gradwire perf\n", busbw);
  std::fflush(stdout);
  return wrong;
}

nlohmann::ordered_json to_json(const std::vector<PerfRow>& rows) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const PerfRow& row : rows) {
    nlohmann::ordered_json each = {
        {"size", row.count * size_of(row.dtype)},
        {"count", row.count},
        {"type", name(row.dtype)},
        {"compressor", row.compressor},
        {"algorithm", row.algorithm},
        {"time_us", row.time.median_us},
        {"dense_time_us", row.dense_time.median_us},
        {"speedup", row.speedup()},
        {"algbw", row.algbw()},
        {"busbw", row.busbw()},
        {"wire_bytes", row.wire_bytes},
        {"ratio", row.ratio()},
        {"rel_error", nullptr},
        {"wrong", nullptr},
        {"dense_wrong", nullptr},
        {"spec", row.spec},
        {"ranks", row.ranks},
        {"encode_us", row.encode_us},
        {"decode_us", row.decode_us},
        {"workspace_bytes", row.workspace_bytes},
    };
    const auto add_spread = [&each](const std::string& prefix, const Spread& spread) {
      each[prefix + "time_min_us"] = spread.min_us;
      each[prefix + "time_max_us"] = spread.max_us;
      each[prefix + "time_p10_us"] = spread.p10_us;
      each[prefix + "time_p90_us"] = spread.p90_us;
    };
    add_spread("", row.time);
    add_spread("dense_", row.dense_time);
    if (row.checked) {
      if (std::isfinite(row.rel_error)) each["rel_error"] = row.rel_error;
      each["wrong"] = row.wrong;
      each["dense_wrong"] = row.dense_wrong;
    }
    out.push_back(std::move(each));
  }
  return out;
}

}  // namespace gradwire::tools
