#include "tools/arguments.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "tools/perf_options.hpp"
#include "tools/perf_report.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire::tools {
namespace {

TEST(ParseBytes, TakesPowersOfTwo) {
  EXPECT_EQ(parse_bytes("-b", "0"), 0U);
  EXPECT_EQ(parse_bytes("-b", "1000"), 1000U);
  EXPECT_EQ(parse_bytes("-b", "3K"), 3072U);
  EXPECT_EQ(parse_bytes("-b", "64m"), std::size_t{64} << 20);
  EXPECT_EQ(parse_bytes("-b", "2G"), std::size_t{2} << 30);
}

TEST(ParseBytes, RefusesAnythingElse) {
  for (const char* const text : {"", "K", "-1", "+1", "1.5M", "1KB", "1 K", " 1", "0x10", "9999999999G", "1T"}) {
    EXPECT_THROW(static_cast<void>(parse_bytes("-b", text)), UsageError) << text;
  }
}

TEST(ParseWhole, KeepsItsRange) {
  EXPECT_EQ(parse_whole("-n", "1", 1, 3), 1U);
  EXPECT_EQ(parse_whole("-n", "18446744073709551615", 0, std::numeric_limits<std::uint64_t>::max()),
            std::numeric_limits<std::uint64_t>::max());
  for (const char* const text : {"0", "4", "-1", "1x", "", "1.0", "18446744073709551617"}) {
    EXPECT_THROW(static_cast<void>(parse_whole("-n", text, 1, 3)), UsageError) << text;
  }
}

TEST(ParseSeconds, RoundsToMilliseconds) {
  EXPECT_EQ(parse_seconds("-T", "0").count(), 0);
  EXPECT_EQ(parse_seconds("-T", "2").count(), 2000);
  EXPECT_EQ(parse_seconds("-T", "0.25").count(), 250);
  for (const char* const text : {"", "-1", "nan", "inf", "1s", "0.0001", "86401"}) {
    EXPECT_THROW(static_cast<void>(parse_seconds("-T", text)), UsageError) << text;
  }
}

TEST(ParseSpecs, CutsOutsideParentheses) {
  EXPECT_EQ(parse_specs("--compressor", "q4,quantize(bits=2,norm=l2),f16"),
            (std::vector<std::string>{"q4", "quantize(bits=2,norm=l2)", "f16"}));
  for (const char* const text : {"", ",", "q4,", ",q4", "q4,,q8"}) {
    EXPECT_THROW(static_cast<void>(parse_specs("--compressor", text)), UsageError) << text;
  }
}

/// As short as they can be said, so that tables stay narrow.
TEST(ParseSpecs, AllIsOneOfEachRow) {
  const std::vector<std::string> all = parse_specs("--compressor", "all");
  const std::vector<CompressorInfo> rows = list_compressors();
  ASSERT_EQ(all.size(), rows.size() + 2);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_LE(all[i].size(), 30u) << all[i];
    if (rows[i].name == "threshold") continue;
    EXPECT_EQ(make_compressor(all[i]).spec(), rows[i].example);
  }
  for (const char* spec : {"none", "quantize", "quantize(levels=exponential)", "rotate", "thc", "powersgd", "none|zstd",
                           "threshold(2)", "topk(0.01)|q4", "q2|zstd"})
    EXPECT_EQ(std::count(all.begin(), all.end(), spec), 1) << spec;
}

TEST(ParseArguments, RefusesPositionals) {
  boost::program_options::options_description options;
  options.add_options()("name", boost::program_options::value<std::string>());
  EXPECT_EQ(parse_arguments(options, {"--name", "x"})["name"].as<std::string>(), "x");
  EXPECT_THROW(static_cast<void>(parse_arguments(options, {"x"})), UsageError);
  EXPECT_THROW(static_cast<void>(parse_arguments(options, {"--na", "x"})), UsageError);
}

TEST(PerfOptions, StepsThroughSizes) {
  PerfOptions options;
  options.min_bytes = 1024;
  options.max_bytes = 10000;
  EXPECT_EQ(options.counts(), (std::vector<std::size_t>{256, 512, 1024, 2048}));
  options.step_factor = 100;
  EXPECT_EQ(options.counts(), (std::vector<std::size_t>{256}));
  options.step_bytes = 4000;
  EXPECT_EQ(options.counts(), (std::vector<std::size_t>{256, 1256, 2256}));
  options.min_bytes = 0;
  options.dtype = DType::f16;
  EXPECT_EQ(options.counts(), (std::vector<std::size_t>{0, 2000, 4000}));
  options.max_bytes = 0;
  EXPECT_EQ(options.counts(), (std::vector<std::size_t>{0}));
}

TEST(Spread, OfKnownNumbers) {
  const Spread spread = spread_of({5, 1, 4, 2, 3});
  EXPECT_DOUBLE_EQ(spread.median_us, 3);
  EXPECT_DOUBLE_EQ(spread.min_us, 1);
  EXPECT_DOUBLE_EQ(spread.max_us, 5);
  EXPECT_DOUBLE_EQ(spread.p10_us, 1.4);
  EXPECT_DOUBLE_EQ(spread.p90_us, 4.6);
  EXPECT_DOUBLE_EQ(spread_of({1, 2}).median_us, 1.5);
  EXPECT_DOUBLE_EQ(spread_of({8}).p90_us, 8);
}

TEST(PerfRow, DerivesItsColumns) {
  PerfRow row;
  row.count = 1000;
  row.ranks = 4;
  row.time.median_us = 2;
  row.dense_time.median_us = 5;
  row.wire_bytes = 1500;
  EXPECT_DOUBLE_EQ(row.speedup(), 2.5);
  EXPECT_DOUBLE_EQ(row.algbw(), 2);
  EXPECT_DOUBLE_EQ(row.busbw(), 3);
  EXPECT_DOUBLE_EQ(row.ratio(), 4);
  row.ranks = 1;
  row.wire_bytes = 0;
  EXPECT_DOUBLE_EQ(row.busbw(), 0);
  EXPECT_DOUBLE_EQ(row.ratio(), 1);
}

}  // namespace
}  // namespace gradwire::tools
