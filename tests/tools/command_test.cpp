// The dispatcher and `gradwire info`, as a user runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <set>
#include <string>

#include "base/env.hpp"
#include "compress/isa.hpp"
#include "tools/run_command.hpp"

#include "gradwire/allreduce.hpp"
#include "gradwire/compressor.hpp"
#include "gradwire/feedback.hpp"
#include "gradwire/plan.hpp"
#include "gradwire/version.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Command, HelpAndVersion) {
  const CommandResult help = run_gradwire({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  for (const char* const subcommand : {"info", "perf", "apply", "plan"}) {
    EXPECT_THAT(help.out, HasSubstr(subcommand));
    const CommandResult own = run_gradwire({subcommand, "--help"});
    EXPECT_EQ(own.exit_code, 0);
    EXPECT_THAT(own.out, HasSubstr(std::string("Usage: gradwire ") + subcommand));
  }
  EXPECT_EQ(run_gradwire({"--version"}).out, "gradwire " GRADWIRE_VERSION "\n");
}

TEST(Command, WrongUsageIsExitCode2) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{},
                                                    {"bogus"},
                                                    {"--bogus"},
                                                    {"info", "--bogus"},
                                                    {"info", "bogus"},
                                                    {"perf", "--bogus"},
                                                    {"plan", "bogus"},
                                                    {"plan", "show", "--bogus"}}) {
    const CommandResult result = run_gradwire(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr("gradwire: error: "));
    if (!arguments.empty()) {
      EXPECT_THAT(result.err, HasSubstr("bogus"));
    }
  }
}

TEST(Info, ListsAllThereIs) {
  const CommandResult result = run_gradwire({"info"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  for (const CompressorInfo& row : list_compressors()) EXPECT_THAT(result.out, HasSubstr(row.example));
  for (const AlgorithmInfo& row : list_algorithms()) EXPECT_THAT(result.out, HasSubstr(row.suits));
  for (const RuleInfo& row : list_rules()) {
    for (const std::string& text : {row.example, row.options, row.summary}) EXPECT_THAT(result.out, HasSubstr(text));
  }
  for (const PolicyInfo& row : list_policies()) EXPECT_THAT(result.out, HasSubstr(row.summary));
  for (const EnvironmentRow& row : describe_environment()) EXPECT_THAT(result.out, HasSubstr(row.variable));
  for (const std::string_view isa : isa::list()) EXPECT_THAT(result.out, HasSubstr(std::string(isa)));
  EXPECT_THAT(result.out, HasSubstr("local"));
}

TEST(Info, TraitsAndFacetsAreThoseOfTheExamples) {
  const nlohmann::json info = nlohmann::json::parse(run_gradwire({"info", "--compressors", "--json"}).out);
  const nlohmann::json& rows = info["compressors"];
  ASSERT_EQ(rows.size(), list_compressors().size());
  std::set<std::string> facets;
  for (const nlohmann::json& row : rows) {
    const Compressor example = make_compressor(row["example"].get<std::string>());
    const CompressorTraits traits = example.traits();
    EXPECT_EQ(row["unbiased"], traits.unbiased) << row;
    EXPECT_EQ(row["fixed_size"], traits.fixed_size) << row;
    EXPECT_EQ(row["lossless"], traits.lossless) << row;
    if (traits.block_elems == kWholeTensor) {
      EXPECT_EQ(row["block"], "tensor") << row;
    } else {
      EXPECT_EQ(row["block"], traits.block_elems) << row;
    }
    const auto listed = row["facets"].get<std::set<std::string>>();
    EXPECT_EQ(listed.count("sparsifier") != 0, example.sparsifier() != nullptr) << row;
    EXPECT_EQ(listed.count("integer_coder") != 0, example.integer_coder() != nullptr) << row;
    EXPECT_EQ(listed.count("low_rank") != 0, example.low_rank() != nullptr) << row;
    EXPECT_EQ(listed.count("sum_encoder") != 0, example.sum_encoder() != nullptr) << row;
    EXPECT_EQ(listed.count("batch_codec") != 0, example.batch_codec() != nullptr) << row;
    EXPECT_EQ(row["on_device"], traits.on_device) << row;
    facets.insert(listed.begin(), listed.end());
  }
  EXPECT_THAT(facets, ::testing::ElementsAre("batch_codec", "integer_coder", "low_rank", "sparsifier", "sum_encoder"));
  const std::string text = run_gradwire({"info", "--compressors"}).out;
  for (const char* const line : {"unbiased        yes", "lossless        yes", "block           tensor",
                                 "facets          sparsifier", "facets          -"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(Info, ASectionComesAlone) {
  const std::string out = run_gradwire({"info", "--algorithms"}).out;
  EXPECT_THAT(out, HasSubstr("scatter_reduce"));
  EXPECT_THAT(out, Not(HasSubstr("quantize(")));
  EXPECT_THAT(out, Not(HasSubstr("GRADWIRE_")));
}

TEST(Info, JsonHoldsTheSame) {
  const CommandResult result = run_gradwire({"info", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json info = nlohmann::json::parse(result.out);
  EXPECT_EQ(info["build"]["version"], GRADWIRE_VERSION);
  EXPECT_TRUE(info["build"]["mpi"].is_boolean());
  EXPECT_EQ(info["isa"]["available"].size(), isa::list().size());
  EXPECT_EQ(info["compressors"].size(), list_compressors().size());
  EXPECT_EQ(info["algorithms"].size(), list_algorithms().size());
  EXPECT_EQ(info["rules"].size(), list_rules().size());
  EXPECT_EQ(info["policies"].size(), list_policies().size());
  EXPECT_EQ(info["environment"].size(), describe_environment().size());
  const nlohmann::json rules = nlohmann::json::parse(run_gradwire({"info", "--rules", "--json"}).out);
  EXPECT_EQ(rules.size(), 1U);
}

}  // namespace
}  // namespace gradwire::test
