#include "perf_options.hpp"

#include <boost/program_options/value_semantic.hpp>
#include <fmt/format.h>

#include <limits>
#include <sstream>

#include "arguments.hpp"
#include "base/env.hpp"
#include "ranks.hpp"

namespace gradwire::tools {
namespace {

namespace po = boost::program_options;

constexpr int kMaxThreads = 1024;  // what make_local takes

po::typed_value<std::string>* text(const char* value_name) { return po::value<std::string>()->value_name(value_name); }

po::options_description describe() {
  po::options_description all("Options (as in nccl-tests where the names are the same)", 110, 70);
  auto add = all.add_options();
  add("help,h", "this text");
  add("minbytes,b", text("BYTES")->default_value("32M"), "smallest tensor; K, M and G are powers of two");
  add("maxbytes,e", text("BYTES"), "largest tensor; the smallest when left out");
  add("stepfactor,f", text("N"), "multiply the size by N; 2 when neither -f nor -i is given");
  add("stepbytes,i", text("BYTES"), "or add BYTES");
  add("iters,n", text("N")->default_value("20"), "timed iterations");
  add("warmup_iters,w", text("N")->default_value("5"), "iterations before them");
  add("check,c", text("0|1")->default_value("1"), "check the last iteration's result");
  add("datatype,d", text("TYPE")->default_value("f32"), "f32, f16 or bf16");
  add("ranks,t", text("N"), "ranks as threads of this process (2); under mpirun the ranks are MPI's");
  add("compressor", text("SPEC,...")->default_value("q4"), "compressors, or 'all' for one of each");
  add("algorithm", text("NAME")->default_value("auto"), "see gradwire info --algorithms");
  add("segment", text("BYTES")->default_value("0"), "f32 bytes of one segment; 0 means GRADWIRE_SEGMENT_BYTES");
  add("timeout,T", text("SECONDS")->default_value("0"), "deadline of each wait; 0 means GRADWIRE_TIMEOUT_MS");
  add("seed", text("N")->default_value("1"), "of the inputs and of stochastic rounding");
  add("json,J", text("FILE"), "also write the rows there");
  return all;
}

constexpr const char* kNotes = R"(
Ranks add gaussian gradients. Per iteration every rank refills its tensor, meets the others at a barrier, and then times
one reused allreduce from start to completion, residual written; next the transport's dense allreduce in the same way.
An iteration takes as long as its slowest rank; 'time' is the median over iterations. algbw and busbw count uncompressed
bytes: algbw = size / time, busbw = algbw * 2(n-1)/n. 'wire bytes' is what the rank that sends most sends; 'ratio' is
2(n-1)/n * size, what an optimal dense allreduce sends, over that. #wrong counts elements whose result differs between
ranks in any bit, or breaks sum(inputs) == result + sum(residuals) by more than f32 rounding. Low rank takes the tensor as
a matrix as square as its size allows, whether that pays or not.
)";

void print_help() {
  std::ostringstream out;
  out << "Usage: gradwire perf [OPTIONS]\n       mpirun -np N gradwire perf [OPTIONS]\n\n" << describe() << kNotes;
  fmt::print("{}", out.str());
}

void parse_sizes(const po::variables_map& given, PerfOptions& options) {
  const auto value = [&](const char* flag) { return given[flag].as<std::string>(); };
  options.min_bytes = parse_bytes("--minbytes", value("minbytes"));
  options.max_bytes = given.count("maxbytes") ? parse_bytes("--maxbytes", value("maxbytes")) : options.min_bytes;
  if (options.min_bytes > options.max_bytes) {
    throw UsageError(fmt::format("--minbytes {} is more than --maxbytes {}", options.min_bytes, options.max_bytes));
  }
  if (given.count("stepbytes") && given.count("stepfactor")) {
    throw UsageError("--stepbytes and --stepfactor exclude each other");
  }
  if (given.count("stepfactor")) {
    options.step_factor =
        parse_whole("--stepfactor", value("stepfactor"), 2, std::numeric_limits<std::uint32_t>::max());
  }
  if (given.count("stepbytes")) {
    options.step_bytes = parse_bytes("--stepbytes", value("stepbytes"));
    if (options.step_bytes == 0) throw UsageError("--stepbytes 0: expected at least 1");
  } else if (options.min_bytes == 0 && options.max_bytes > 0) {
    throw UsageError("--minbytes 0 never grows by a factor: use --stepbytes");
  }
}

int parse_ranks(const po::variables_map& given) {
  const bool mpi = under_mpi();
  if (!given.count("ranks")) return 2;
  if (mpi) throw UsageError("--ranks is for ranks as threads; under an MPI launcher the launcher sets their number");
  return static_cast<int>(parse_whole("--ranks", given["ranks"].as<std::string>(), 1, kMaxThreads));
}

}  // namespace

std::vector<std::size_t> PerfOptions::counts() const {
  std::vector<std::size_t> counts;
  std::size_t bytes = min_bytes;
  while (true) {
    counts.push_back(bytes / size_of(dtype));
    const std::size_t step = step_bytes > 0 ? step_bytes : bytes * (step_factor - 1);
    if (step == 0 || step > max_bytes - bytes) return counts;
    bytes += step;
  }
}

bool parse_perf_options(const Arguments& arguments, PerfOptions& options) {
  const po::variables_map given = parse_arguments(describe(), arguments);
  if (given.count("help")) {
    print_help();
    return false;
  }
  const auto value = [&](const char* flag) { return given[flag].as<std::string>(); };
  constexpr std::uint64_t kMaxIters = 1'000'000;
  parse_sizes(given, options);
  options.iters = static_cast<int>(parse_whole("--iters", value("iters"), 1, kMaxIters));
  options.warmup_iters = static_cast<int>(parse_whole("--warmup_iters", value("warmup_iters"), 0, kMaxIters));
  options.check = parse_whole("--check", value("check"), 0, 1) == 1;
  options.dtype = parse_dtype("--datatype", value("datatype"));
  options.ranks = parse_ranks(given);
  options.specs = parse_specs("--compressor", value("compressor"));
  options.algorithm = value("algorithm");
  options.segment_bytes = parse_bytes("--segment", value("segment"));
  options.timeout = parse_seconds("--timeout", value("timeout"));
  if (options.timeout.count() == 0) options.timeout = environment().timeout;
  options.seed = parse_whole("--seed", value("seed"), 0, std::numeric_limits<std::uint64_t>::max());
  if (given.count("json")) options.json_path = value("json");
  return true;
}

}  // namespace gradwire::tools
