#include "allreduce_bench.hpp"

#include <boost/program_options.hpp>
#include <fmt/format.h>
#include <mpi.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>

namespace gradwire::bench {
namespace {

namespace po = boost::program_options;

int rank_of_job() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

std::size_t parse_bytes(const std::string& text) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string unit(end, text.data() + text.size());
  const std::size_t scale = unit.empty()  ? 1
                            : unit == "K" ? 1u << 10
                            : unit == "M" ? 1u << 20
                            : unit == "G" ? 1u << 30
                                          : 0;
  if (error != std::errc{} || scale == 0)
    throw po::error("'" + text + "' is no size: expected for example 4096, 64K or 64M");
  return value * scale;
}

po::options_description describe(const std::string& program, Options& options) {
  po::options_description flags("Options");
  auto add = flags.add_options();
  add("help,h", "this text");
  add("minbytes,b", po::value<std::string>()->default_value("64M"), "smallest size; K, M and G are powers of two");
  add("maxbytes,e", po::value<std::string>(), "largest size; the smallest when left out");
  add("stepfactor,f", po::value(&options.factor)->default_value(2), "multiply the size by this");
  add("iters,n", po::value(&options.iterations)->default_value(20), "timed iterations");
  add("warmup_iters,w", po::value(&options.warmup)->default_value(5), "iterations before them");
  add("json,J", po::value(&options.json), "also write the rows, with every iteration's time, to this file");
  if (program == "gloo") {
    add("network", po::value(&options.network)->required(), "interface (eth0) that carries the traffic");
    add("store", po::value(&options.store), "directory all ranks see, to meet in; a fresh one in /tmp when left out");
  } else {
    add("label", po::value(&options.label)->default_value("default"), "name of the run in the table");
    add("nonblocking", po::bool_switch(&options.nonblocking), "MPI_Iallreduce and MPI_Wait");
  }
  return flags;
}

void check(const Options& options) {
  if (options.min_bytes < sizeof(float)) throw po::error("--minbytes: expected at least 4");
  if (options.max_bytes < options.min_bytes) throw po::error("--maxbytes is less than --minbytes");
  if (options.factor < 2) throw po::error("--stepfactor: expected at least 2");
  if (options.iterations < 1 || options.warmup < 0) throw po::error("--iters: expected at least 1; --warmup_iters: 0");
}

[[noreturn]] void leave(int code) {
  MPI_Barrier(MPI_COMM_WORLD);
  MPI_Finalize();
  std::exit(code);
}

struct Row {
  std::string label;
  std::size_t bytes = 0;
  std::vector<double> times_us;  // of each iteration, on the slowest rank
  long wrong = 0;

  [[nodiscard]] double quantile(double q) const {
    std::vector<double> sorted = times_us;
    std::sort(sorted.begin(), sorted.end());
    const double place = q * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, sorted.size() - 1);
    return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
  }
  [[nodiscard]] double algbw() const { return static_cast<double>(bytes) / quantile(0.5) * 1e-3; }
};

class Runner {
 public:
  explicit Runner(const Options& options) : options_(options) { MPI_Comm_size(MPI_COMM_WORLD, &ranks_); }

  std::vector<Row> measure(std::size_t bytes, const std::vector<Contender>& contenders) {
    values_.resize(bytes / sizeof(float));
    std::vector<Row> rows;
    for (const Contender& contender : contenders)
      rows.push_back({contender.label, values_.size() * sizeof(float), {}, 0});
    for (int i = -options_.warmup; i < options_.iterations; ++i) {
      for (std::size_t c = 0; c < contenders.size(); ++c) {
        const double time_us = once(contenders[c]);
        if (i >= 0) rows[c].times_us.push_back(time_us);
        if (i == options_.iterations - 1) rows[c].wrong = count_wrong();
      }
    }
    return rows;
  }

 private:
  /// Small integers that depend on rank and place: their sums are exact.
  static float input(int rank, std::size_t i) {
    return static_cast<float>((i + static_cast<std::size_t>(rank) * 5) % 13);
  }

  double once(const Contender& contender) {
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i] = input(rank_, i);
    MPI_Barrier(MPI_COMM_WORLD);
    const double start = MPI_Wtime();
    contender.all_reduce(values_.data(), values_.size());
    double elapsed = MPI_Wtime() - start;
    MPI_Allreduce(MPI_IN_PLACE, &elapsed, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return elapsed * 1e6;
  }

  long count_wrong() const {
    long wrong = 0;
    for (std::size_t i = 0; i < values_.size(); ++i) {
      float sum = 0;
      for (int rank = 0; rank < ranks_; ++rank) sum += input(rank, i);
      if (values_[i] != sum) ++wrong;
    }
    MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    return wrong;
  }

  const Options& options_;
  int rank_ = rank_of_job();
  int ranks_ = 1;
  std::vector<float> values_;
};

void print(const std::vector<Row>& rows, int ranks) {
  fmt::print("# {} ranks, f32, sum, in place; time of the slowest rank\n", ranks);
  fmt::print("# {:>12} {:>12} {:<24} {:>12} {:>12} {:>12} {:>8} {:>8} {:>6}\n", "size", "count", "algorithm",
             "median us", "min us", "max us", "algbw", "busbw", "#wrong");
  for (const Row& row : rows) {
    const double bus = row.algbw() * 2.0 * (ranks - 1) / ranks;
    fmt::print("  {:>12} {:>12} {:<24} {:>12.1f} {:>12.1f} {:>12.1f} {:>8.3f} {:>8.3f} {:>6}\n", row.bytes,
               row.bytes / sizeof(float), row.label, row.quantile(0.5), row.quantile(0), row.quantile(1), row.algbw(),
               bus, row.wrong);
  }
}

void write_json(const std::string& path, const std::vector<Row>& rows, int ranks) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const Row& row : rows) {
    all.push_back({{"algorithm", row.label},
                   {"ranks", ranks},
                   {"size", row.bytes},
                   {"time_us", row.quantile(0.5)},
                   {"min_us", row.quantile(0)},
                   {"max_us", row.quantile(1)},
                   {"algbw", row.algbw()},
                   {"wrong", row.wrong},
                   {"times_us", row.times_us}});
  }
  std::ofstream file(path);
  file << all.dump(2) << '\n';
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path);
}

}  // namespace

Options read_options(const std::string& program, int argc, char** argv) {
  Options options;
  const po::options_description flags = describe(program, options);
  try {
    po::variables_map given;
    po::store(po::parse_command_line(argc, argv, flags), given);
    if (given.count("help")) {
      if (rank_of_job() == 0)
        std::cout << "Times " << program << "'s allreduce over the ranks of this MPI job.\n" << flags;
      leave(0);
    }
    po::notify(given);
    options.min_bytes = parse_bytes(given["minbytes"].as<std::string>());
    options.max_bytes = given.count("maxbytes") ? parse_bytes(given["maxbytes"].as<std::string>()) : options.min_bytes;
    check(options);
  } catch (const po::error& error) {
    if (rank_of_job() == 0) fmt::print(stderr, "{}\n", error.what());
    leave(2);
  }
  return options;
}

int run(const Options& options, const std::vector<Contender>& contenders) {
  int ranks = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  Runner runner(options);
  std::vector<Row> rows;
  for (std::size_t bytes = options.min_bytes; bytes <= options.max_bytes; bytes *= options.factor) {
    for (Row& row : runner.measure(bytes, contenders)) rows.push_back(std::move(row));
  }
  if (rank_of_job() == 0) {
    print(rows, ranks);
    if (!options.json.empty()) write_json(options.json, rows, ranks);
  }
  return std::any_of(rows.begin(), rows.end(), [](const Row& row) { return row.wrong > 0; }) ? 1 : 0;
}

}  // namespace gradwire::bench
