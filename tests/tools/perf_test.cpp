// `gradwire perf` with ranks as threads, as a user runs it. What it measures is not asserted, what it checks is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <sstream>

#include "tools/run_command.hpp"

#include "gradwire/allreduce.hpp"
#include "gradwire/compressor.hpp"

namespace gradwire::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class Perf : public ::testing::Test {
 protected:
  /// Runs with few iterations and returns the rows of the JSON file.
  json rows(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"perf", "-n", "2", "-w", "1", "-c", "1", "-J", json_});
    result_ = run_gradwire(arguments);
    EXPECT_EQ(result_.exit_code, 0) << result_.err << result_.out;
    return result_.exit_code == 0 ? json::parse(read_file(json_)) : json::array();
  }

  TemporaryFolder folder_;
  std::string json_ = folder_ / "rows.json";
  CommandResult result_;
};

class PerfRanks : public Perf, public ::testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, PerfRanks, ::testing::Values(1, 2, 3));

/// What two lossy steps can do to a sum: each adds the root of the bound to what it is given.
double most_relative_error(const std::string& spec, std::size_t count) {
  return std::pow(1 + std::sqrt(make_compressor(spec).error_bound(count)), 2) - 1 + 1e-6;
}

TEST_P(PerfRanks, EveryCompressorIsRightAtEverySize) {
  const json all = rows({"-b", "4K", "-e", "256K", "-f", "8", "-t", std::to_string(GetParam()), "--compressor", "all"});
  ASSERT_EQ(all.size(), 3 * (list_compressors().size() + 2));
  std::size_t at = 0;
  for (const std::size_t size : {4096U, 32768U, 262144U}) {
    for (std::size_t i = 0; i < all.size() / 3; ++i) {
      const json& row = all[at++];
      const auto spec = row["spec"].get<std::string>();
      EXPECT_EQ(row["size"], size);
      EXPECT_EQ(row["count"], size / 4);
      EXPECT_EQ(row["type"], "f32");
      EXPECT_EQ(row["compressor"], all[i]["compressor"]);
      EXPECT_EQ(row["ranks"], GetParam());
      EXPECT_EQ(row["wrong"], 0);
      EXPECT_EQ(row["dense_wrong"], 0);
      EXPECT_LT(row["rel_error"], most_relative_error(spec, size / 4)) << spec;
      for (const char* const key : {"time_us", "dense_time_us", "speedup", "algbw", "ratio"})
        EXPECT_GT(row[key], 0) << key;
      for (const char* const key : {"busbw", "wire_bytes", "encode_us", "decode_us"}) EXPECT_GE(row[key], 0) << key;
      EXPECT_LE(row["time_min_us"], row["time_us"]);
      EXPECT_LE(row["time_us"], row["time_max_us"]);
      EXPECT_NE(row["algorithm"], "auto");
    }
  }
  EXPECT_THAT(result_.out, HasSubstr("# Out of bounds values : 0 OK\n"));
}

TEST_P(PerfRanks, EveryAlgorithmIsRightForEveryType) {
  for (const AlgorithmInfo& algorithm : list_algorithms()) {
    const std::string compressors = algorithm.name == "dense"            ? "none"
                                    : algorithm.name == "sparse_scatter" ? "topk(0.01)"
                                    : algorithm.name == "integer_sum"    ? "thc"
                                    : algorithm.name == "lowrank"        ? "powersgd(2),projection(factors=f16)"
                                                                         : "none,q8,q2";
    for (const char* const type : {"f32", "f16", "bf16"}) {
      const json all = rows({"-b", "40004", "-d", type, "-t", std::to_string(GetParam()), "--compressor", compressors,
                             "--algorithm", algorithm.name, "--segment", "8K"});
      for (const json& row : all) {
        EXPECT_EQ(row["algorithm"], algorithm.name);
        EXPECT_EQ(row["type"], type);
        EXPECT_EQ(row["wrong"], 0) << row;
        EXPECT_EQ(row["dense_wrong"], 0) << row;
      }
    }
  }
}

TEST_F(Perf, TheSameSeedGivesTheSameError) {
  const std::vector<std::string> run{"-b", "64K", "-t", "3", "--compressor", "quantize(bits=3,round=stochastic)"};
  const auto error = [&](const char* seed) {
    std::vector<std::string> arguments = run;
    arguments.insert(arguments.end(), {"--seed", seed});
    return rows(arguments).at(0)["rel_error"].get<double>();
  };
  const double first = error("5");
  EXPECT_EQ(error("5"), first);
  EXPECT_NE(error("6"), first);
}

TEST_F(Perf, WireBytesAreWhatTheFormatSays) {
  // 16384 elements, 2 ranks, scatter_reduce, one segment: a message of 8192 elements to the owner, one back.
  const json row = rows({"-b", "64K", "-t", "2", "--compressor", "q4", "--algorithm", "scatter_reduce"}).at(0);
  const std::size_t message = 32 + make_compressor("q4").max_frame_size(8192, DType::f32);
  EXPECT_EQ(row["wire_bytes"], 2 * message);
  EXPECT_DOUBLE_EQ(row["ratio"], 65536.0 / static_cast<double>(2 * message));
}

TEST_F(Perf, HasTheLookOfNcclTests) {
  ASSERT_EQ(rows({"-b", "8K", "-t", "2"}).size(), 1U);
  EXPECT_EQ(result_.err, "");
  std::size_t header = 0, data = 0;
  std::istringstream out(result_.out);
  for (std::string line; std::getline(out, line);) {
    (line.starts_with('#') ? header : data) += 1;
    if (!line.starts_with('#')) {
      EXPECT_THAT(line, ::testing::MatchesRegex("^ +8192 +2048 +f32 +q4 .*"));
    }
  }
  EXPECT_EQ(data, 1U);
  EXPECT_GE(header, 12U);
  for (const char* const text : {"# Collective test starting: gradwire perf\n", "#  Rank   1 Pid", "algbw", "#wrong",
                                 "# Avg bus bandwidth    : ", "# Collective test concluded: gradwire perf\n"}) {
    EXPECT_THAT(result_.out, HasSubstr(text));
  }
}

TEST_F(Perf, WithoutChecksItSaysSo) {
  const CommandResult result = run_gradwire({"perf", "-b", "4K", "-n", "1", "-c", "0", "-J", json_});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr("# Out of bounds values : not checked\n"));
  EXPECT_TRUE(json::parse(read_file(json_)).at(0)["wrong"].is_null());
}

TEST_F(Perf, NoElementsAreNoError) {
  const json all = rows({"-b", "0", "-e", "8", "-i", "4", "-t", "3"});
  ASSERT_EQ(all.size(), 3U);
  for (const json& row : all) EXPECT_EQ(row["wrong"], 0);
}

struct Failure {
  std::vector<std::string> arguments;
  int exit_code;
  std::string message;
};

TEST_F(Perf, FailuresNameTheirCauseAndEndAllRanks) {
  const std::vector<Failure> failures{
      // Rank 0 alone: the others are waiting for it by then.
      {{"--json", folder_ / "none/x.json", "-t", "3"}, 1, "error (io): rank 0: cannot write "},
      {{"--algorithm", "bogus", "-t", "3"}, 1, "error (invalid_argument): rank "},
      {{"--compressor", "q4", "--algorithm", "dense"}, 1, "error (unsupported): rank "},
      {{"--compressor", "bogus"}, 1, "error (invalid_argument): "},
      {{"--ranks", "0"}, 2, "--ranks 0: expected"},
      {{"--ranks", "1025"}, 2, "--ranks 1025: expected"},
      {{"--maxbytes", "1K"}, 2, "--minbytes 4096 is more than --maxbytes 1024"},
      {{"--stepfactor", "1"}, 2, "--stepfactor 1: expected"},
      {{"--stepfactor", "2", "--stepbytes", "4"}, 2, "exclude each other"},
      {{"--stepbytes", "0"}, 2, "--stepbytes 0: expected"},
      {{"--iters", "0"}, 2, "--iters 0: expected"},
      {{"--datatype", "f64"}, 2, "--datatype f64: expected f32, f16 or bf16"},
      {{"--check", "2"}, 2, "--check 2: expected"},
      {{"--compressor", "q4,,q8"}, 2, "an empty spec"},
      {{"--timeout", "soon"}, 2, "--timeout soon: expected seconds"},
      {{"--segment", "x"}, 2, "--segment x: expected bytes"},
  };
  for (const Failure& failure : failures) {
    std::vector<std::string> arguments{"perf", "--minbytes", "4K"};
    arguments.insert(arguments.end(), failure.arguments.begin(), failure.arguments.end());
    const CommandResult result = run_gradwire(arguments);
    EXPECT_EQ(result.exit_code, failure.exit_code) << failure.message << result.err;
    EXPECT_THAT(result.err, HasSubstr("gradwire: error"));
    EXPECT_THAT(result.err, HasSubstr(failure.message));
  }
  EXPECT_EQ(folder_.files(), std::vector<std::string>{});
}

}  // namespace
}  // namespace gradwire::test
