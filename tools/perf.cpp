#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <optional>
#include <span>

#include "base/atomic_file.hpp"
#include "command.hpp"
#include "perf_measure.hpp"
#include "perf_options.hpp"
#include "perf_report.hpp"
#include "ranks.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire::tools {
namespace {

RankPlace this_place() {
  RankPlace place;
  ::gethostname(place.host, sizeof place.host - 1);
  place.pid = ::getpid();
  return place;
}

/// One rank's whole run. Returns the number of wrong elements, on rank 0.
std::uint64_t run_rank(const Communicator& comm, const PerfOptions& options) {
  const bool root = comm.rank() == 0;
  std::optional<AtomicFile> json;  // opened first: a bad path should not cost a benchmark
  if (root && !options.json_path.empty()) json.emplace(options.json_path);

  const RankPlace place = this_place();
  const std::vector<RankPlace> places = gather_values(comm, std::span(&place, 1), options.deadline());
  const PerfTable table(options);
  if (root) table.print_preamble(comm.transport().info(), places);

  PerfBench bench(comm, options);
  std::vector<PerfRow> rows;
  for (const std::size_t count : options.counts()) {
    for (const std::string& spec : options.specs) {
      rows.push_back(bench.measure(count, spec));
      if (root) table.print_row(rows.back());
    }
  }
  if (!root) return 0;
  if (json) {
    const std::string text = to_json(rows).dump(2) + "\n";
    json->write(text.data(), text.size());
    json->close();
    json->commit();
  }
  return table.print_footer(rows);
}

}  // namespace

int run_perf(const Arguments& arguments) {
  PerfOptions options;
  if (!parse_perf_options(arguments, options)) return 0;
  for (const std::string& spec : options.specs)
    static_cast<void>(make_compressor(spec));  // complain once, before ranks
  std::uint64_t wrong = 0;
  run_ranks(options.ranks, [&](const Communicator& comm) {
    const std::uint64_t found = run_rank(comm, options);
    if (comm.rank() == 0) wrong = found;
  });
  return wrong == 0 ? 0 : kExitFailed;
}

}  // namespace gradwire::tools
