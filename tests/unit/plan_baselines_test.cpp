// What others do: global top-k and CGX's rules for bits.
#include <gmock/gmock.h>

#include "unit/plan_support.hpp"

#include "gradwire/error.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;
using Specs = std::vector<std::string>;

/// Layers of these reference errors, with 1 to 8 bits to choose from, and a bias that is never quantised.
Table bits_table(const std::vector<double>& errors, std::uint64_t count = 1000) {
  Table table;
  for (std::size_t l = 0; l < errors.size(); ++l) {
    TableLayer layer{fmt::format("layer{}", l), count, 3, {}};
    for (std::uint64_t bits = 1; bits <= 8; ++bits)
      layer.candidates.push_back(
          {fmt::format("q{}", bits), 125 * bits, std::ldexp(errors[l], 4 - static_cast<int>(bits))});
    table.layers.push_back(layer);
  }
  table.layers.push_back({"bias", 10, 0, {{"none", 40, 0}}});
  return table;
}

Specs specs_of(const char* policy, const Table& table) {
  Specs specs;
  for (const PlanLayer& layer : make_policy(policy).plan(table).layers) specs.push_back(layer.spec);
  return specs;
}

TEST(Cgx, LinearGivesABitForEachHalving) {
  const Table table = bits_table({8, 4, 4.001, 1, 0.25, 0.001, 0});
  EXPECT_EQ(specs_of("cgx_linear", table), (Specs{"q8", "q7", "q8", "q5", "q3", "q2", "q2", "none"}));
  EXPECT_EQ(specs_of("cgx_linear(low=4,high=6)", table), (Specs{"q6", "q5", "q6", "q4", "q4", "q4", "q4", "none"}));
}

TEST(Cgx, TakesTheNextMoreBitsThatThereAre) {
  const Table table{
      {{"a", 100, 0, {{"q2", 25, 8}, {"quantize(bits=4,norm=l2)", 50, 2}, {"q8", 100, 0.1}, {"none", 400, 0}}},
       {"b", 100, 0, {{"none", 400, 1}, {"q4", 50, 2}, {"q2", 25, 4}}},
       {"c", 100, 1, {{"topk(0.1)", 9, 1}, {"q4|zstd", 9, 1}}}}};
  EXPECT_EQ(specs_of("cgx_linear(high=4)", table), (Specs{"quantize(bits=4,norm=l2)", "q2", "q4|zstd"}));
  EXPECT_EQ(specs_of("cgx_linear(low=3,high=6)", table), (Specs{"q8", "q4", "q4|zstd"}));
  EXPECT_EQ(specs_of("cgx_linear(low=8)", table), (Specs{"q8", "q4", "q4|zstd"}));  // the most there are
}

TEST(Cgx, BitsAreThoseOfTheCompressor) {
  const auto taken = [](const std::string& spec, int bits) {
    const Table table{{{"a", 100, 0, {{"q8", 100, 2}, {spec, 50, 1}}}}};
    return specs_of(fmt::format("cgx_linear(low={0},high={0})", bits).c_str(), table)[0] == spec;
  };
  EXPECT_FALSE(taken("quantize(bits=12)", 1)) << "no compressor";
  EXPECT_FALSE(taken("q4(bucket=7)", 4)) << "no compressor";
  EXPECT_FALSE(taken("rotate(q4)", 4));
  EXPECT_FALSE(taken("topk(0.1)|quantize(bits=4)", 4));
  EXPECT_TRUE(taken("quantize(bucket=64)", 4)) << "4 is what it has when not told";
  EXPECT_TRUE(taken("quantize(bucket=64,bits=3)", 3));
  EXPECT_TRUE(taken("q3(levels=exponential)", 3));
  EXPECT_TRUE(taken("q2(levels=learned)", 2));
  EXPECT_FALSE(taken("q2(levels=learned)", 3));
}

TEST(Cgx, KmeansGivesBitsByClustersOfErrors) {
  // three clear clusters, of equal size in elements
  Table table = bits_table({1, 1.1, 10, 10.5, 100, 101});
  table.layers.pop_back();
  EXPECT_EQ(specs_of("cgx_kmeans(low=3,high=5)", table), (Specs{"q3", "q3", "q4", "q4", "q5", "q5"}));
  EXPECT_EQ(specs_of("cgx_kmeans(low=8,high=8)", table), Specs(6, "q8"));
  Table two = bits_table({1, 100});
  two.layers.pop_back();
  EXPECT_EQ(specs_of("cgx_kmeans", two), (Specs{"q7", "q8"}));  // fewer layers than bits: the upper ones
  EXPECT_EQ(specs_of("cgx_kmeans(low=2,high=3)", bits_table({5, 5, 5})), (Specs{"q3", "q3", "q3", "none"}));
}

TEST(Cgx, BadRangesAreRefused) {
  for (const char* const spec : {"cgx_linear(low=5,high=4)", "cgx_kmeans(low=5,high=4)"}) {
    try {
      (void)make_policy(spec);
      FAIL();
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("low is 5, above high, 4"));
    }
  }
}

TEST(GlobalTopk, OneThresholdForAllLayers) {
  // elements 8, 7, 6, 5 and 4, 3, 2, 1: the four largest of all are in the first layer
  const auto layer = [](const char* name, const std::vector<double>& elements) {
    TableLayer made{name, 4, 1, {}};
    double error = 0;
    for (const double x : elements) error += x * x;
    for (std::size_t k = 0; k < elements.size(); ++k) {
      error -= elements[k] * elements[k];
      made.candidates.push_back(
          {fmt::format("topk({})", 0.25 * static_cast<double>(k + 1)), 8 * (k + 1), std::sqrt(error)});
    }
    made.candidates.push_back({"none", 1, 0});  // better than all, and none of topk's
    return made;
  };
  const Table table{{layer("a", {8, 7, 6, 5}), layer("b", {4, 3, 2, 1}), {"bias", 1, 0, {{"none", 4, 0}}}}};
  const Plan plan = make_policy("global_topk").plan(table);
  EXPECT_EQ(specs_of("global_topk", table), (Specs{"topk(0.75)", "topk(0.25)", "none"}));  // one element at least
  EXPECT_EQ(plan.limit, PlanLimit::bytes);
  EXPECT_EQ(plan.budget, 36);
  EXPECT_EQ(specs_of("global_topk(ratio=0.75)", table), (Specs{"topk(1)", "topk(0.25)", "none"}));
  EXPECT_THROW((void)make_policy("global_topk(ratio=8)").plan(table), Error);
}

TEST(Legacy, TheLargestLayersAreCompressedMore) {
  Table table;
  for (const std::uint64_t count : std::vector<std::uint64_t>{50, 900, 20, 700, 900, 10, 30, 40, 5, 60})
    table.layers.push_back(
        {fmt::format("l{}", table.layers.size()), count, 0, {{"q4", count, 1}, {"q2", count / 2, 2}}});
  const auto large = [&](const std::string& share) {
    std::vector<std::size_t> places;
    const Specs specs = specs_of(fmt::format("legacy(large=q2,small=q4{})", share).c_str(), table);
    for (std::size_t l = 0; l < specs.size(); ++l)
      if (specs[l] == "q2") places.push_back(l);
    return places;
  };
  using Places = std::vector<std::size_t>;
  EXPECT_EQ(large(""), (Places{1, 4}));
  EXPECT_EQ(large(",share=0.1"), (Places{1}));  // of the same size the earlier one
  EXPECT_EQ(large(",share=0.21"), (Places{1, 3, 4}));
  EXPECT_EQ(large(",share=0.3"), (Places{1, 3, 4}));
  EXPECT_EQ(large(",share=0"), Places{});
  EXPECT_EQ(large(",share=1").size(), 10U);
  table.layers.push_back({"bias", 10, 0, {{"none", 40, 0}}});
  EXPECT_EQ(specs_of("legacy(large=q2,small=q4)", table).back(), "none");
  table.layers.back().candidates.push_back({"q2", 3, 1});
  const auto complaint = [&](const char* policy) -> std::string {
    try {
      (void)make_policy(policy).plan(table);
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  };
  EXPECT_THAT(complaint("legacy(large=q2,small=q4)"),
              HasSubstr("layer \"bias\" has the candidate \"q2\", but not \"q4\""));
  EXPECT_THAT(complaint("legacy(large=q8,small=q3)"), HasSubstr("no layer has the candidates \"q8\" and \"q3\""));
  EXPECT_THAT(complaint("legacy(large=q2)"), HasSubstr("which two? legacy(large=SPEC,small=SPEC)"));
  EXPECT_THAT(complaint("legacy(large=q2,small=q4,share=1.5)"), HasSubstr("option share is 1.5; accepted: 0..1"));
}

/// A baseline without anything to choose is an error, not the reference under another name.
TEST(Baselines, NothingToChooseIsSaid) {
  Table quantised;
  quantised.layers.push_back({"fc", 1000, 0, {{"q4", 500, 1}, {"q2", 250, 3}}});
  Table sparse;
  sparse.layers.push_back({"fc", 1000, 0, {{"topk(0.1)", 500, 1}, {"topk(0.01)", 50, 3}}});
  const auto complaint = [](const char* policy, const Table& table) -> std::string {
    try {
      (void)make_policy(policy).plan(table);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::invalid_argument);
      return error.what();
    }
    return {};
  };
  EXPECT_THAT(complaint("global_topk", quantised), ::testing::HasSubstr("no layer has a candidate like topk(0.01)"));
  EXPECT_EQ(complaint("global_topk", sparse), "");
  for (const char* policy : {"cgx_linear", "cgx_kmeans"}) {
    EXPECT_THAT(complaint(policy, sparse), ::testing::HasSubstr("no layer has a candidate like q4")) << policy;
    EXPECT_EQ(complaint(policy, quantised), "") << policy;
  }
}

}  // namespace
}  // namespace gradwire::testing
