// One threshold for all spectra, beside a search over all thresholds.
#include <gmock/gmock.h>

#include <algorithm>
#include <map>

#include "unit/plan_support.hpp"

#include "gradwire/error.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;
using Specs = std::vector<std::string>;

/// A 100 x 200 matrix with q4 and these ranks to choose from; q4 takes as much as rank 8 1/3.
TableLayer matrix(const std::string& name, std::vector<double> singular_values, const std::vector<std::size_t>& ranks) {
  TableLayer layer{name, 20'000, 0, {{"q4", 10'000, 1}}};
  layer.shape = {100, 200};
  layer.singular_values = std::move(singular_values);
  for (const std::size_t rank : ranks)
    layer.candidates.push_back({fmt::format("powersgd(rank={})", rank), 1200 * rank, 2 / static_cast<double>(rank)});
  return layer;
}

TableLayer bias() { return {"bias", 100, 0, {{"none", 400, 0}}}; }

Specs specs_of(const std::string& policy, const Table& table) {
  Specs specs;
  for (const PlanLayer& layer : make_policy(policy).plan(table).layers) specs.push_back(layer.spec);
  return specs;
}

std::string refusal(const std::string& policy, const Table& table) {
  try {
    (void)make_policy(policy).plan(table);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument);
    return error.what();
  }
  return "accepted";
}

TEST(Spectral, OneThresholdForAllMatrices) {
  // scaled: 1, 0.5, 0.4, 0.1 and 1, 0.9, 0.8, 0.45; norms do not matter
  const Table table{
      {matrix("a", {1000, 500, 400, 100}, {1, 2, 3, 4}), matrix("b", {1, 0.9, 0.8, 0.45}, {1, 2, 3, 4}), bias()}};
  const auto at = [&](std::uint64_t ranks) {
    return specs_of(fmt::format("spectral(bytes={})", 1200 * ranks + 400), table);
  };
  EXPECT_EQ(at(9), (Specs{"powersgd(rank=4)", "powersgd(rank=4)", "none"}));
  EXPECT_EQ(at(8), (Specs{"powersgd(rank=4)", "powersgd(rank=4)", "none"}));
  EXPECT_EQ(at(7), (Specs{"powersgd(rank=3)", "powersgd(rank=4)", "none"}));  // 0.1 goes first
  EXPECT_EQ(at(6), (Specs{"powersgd(rank=2)", "powersgd(rank=4)", "none"}));  // then 0.4
  EXPECT_EQ(at(5), (Specs{"powersgd(rank=2)", "powersgd(rank=3)", "none"}));  // then 0.45 of the other
  EXPECT_EQ(at(4), (Specs{"powersgd(rank=1)", "powersgd(rank=3)", "none"}));
  EXPECT_EQ(at(2), (Specs{"powersgd(rank=1)", "powersgd(rank=1)", "none"}));
  EXPECT_THAT(refusal("spectral(bytes=2799)", table),
              HasSubstr("no plan: at the highest threshold the bytes sum to 2800, over the budget of 2799"));
  const Plan plan = make_policy("spectral(ratio=10)").plan(table);
  EXPECT_EQ(plan.limit, PlanLimit::bytes);
  EXPECT_EQ(plan.budget, 16'040);
  EXPECT_FALSE(plan.bound.has_value());
}

TEST(Spectral, RanksAreRoundedUpToThoseThereAre) {
  const Table table{{matrix("a", {10, 9, 8, 3, 2, 1}, {1, 4}), matrix("b", {10, 1}, {1})}};
  EXPECT_EQ(specs_of("spectral(bytes=6000)", table), (Specs{"powersgd(rank=4)", "powersgd(rank=1)"}));
  // above 0.9 a single value is left: below it, ranks 2 and 3 still take 4
  EXPECT_EQ(specs_of("spectral(bytes=5999)", table), (Specs{"powersgd(rank=1)", "powersgd(rank=1)"}));
}

TEST(Spectral, TheLeastValueIsZeroWhereNotAllAreKnown) {
  TableLayer all = matrix("all", {}, {1, 2});
  for (int i = 0; i < 100; ++i) all.singular_values.push_back(i == 0 ? 10 : i == 1 ? 6 : 5);  // scaled 1, 0.2, 0, ...
  const Table table{{all, matrix("first", {10, 5}, {1, 2})}};                                 // scaled 1, 0.5
  EXPECT_EQ(specs_of("spectral(bytes=3600)", table), (Specs{"powersgd(rank=1)", "powersgd(rank=2)"}));
}

TEST(Spectral, FlatAndEmptySpectra) {
  const Table table{{matrix("flat", std::vector<double>(100, 3), {1, 2}), matrix("zero", {0, 0}, {1, 2}),
                     matrix("falls", {3, 2}, {1, 2})}};
  // zeros are dropped first, the flat one keeps its rank to the end
  EXPECT_EQ(specs_of("spectral(bytes=6000)", table),
            (Specs{"powersgd(rank=2)", "powersgd(rank=1)", "powersgd(rank=2)"}));
  EXPECT_EQ(specs_of("spectral(bytes=4800)", table),
            (Specs{"powersgd(rank=2)", "powersgd(rank=1)", "powersgd(rank=1)"}));
  EXPECT_EQ(refusal("spectral(bytes=4799)", table).find("accepted"), std::string::npos);
}

TEST(Spectral, WhatDoesNotShrinkIsQuantised) {
  const std::vector<double> slow{10, 9.9, 9.8, 9.7, 9.6, 9.5, 9.4, 9.3, 9.2, 9.1};
  Table table{{matrix("a", slow, {1, 2, 4, 8, 9}), bias()}};
  EXPECT_EQ(specs_of("spectral(bytes=20000)", table), (Specs{"q4", "none"}));  // rank 9 would take 10 800
  EXPECT_EQ(specs_of("spectral(bytes=10300)", table), (Specs{"powersgd(rank=8)", "none"}));
  for (TableLayer& layer : table.layers) layer.candidates.push_back({"q2", layer.count / 4, 3});
  EXPECT_EQ(specs_of("spectral(bytes=20000,quantiser=q2)", table), (Specs{"q2", "q2"}));
  table.layers[1].candidates.pop_back();
  EXPECT_EQ(specs_of("spectral(bytes=20000,quantiser=q2)", table), (Specs{"q2", "none"}));  // it has no q2
  EXPECT_THAT(refusal("spectral(bytes=20000,quantiser=q3)", table), HasSubstr("no layer has a candidate \"q3\""));
  table.layers[0].reference = 2;  // rank 2 is no quantiser
  EXPECT_EQ(specs_of("spectral(bytes=20000)", table), (Specs{"powersgd(rank=9)", "none"}));
}

TEST(Spectral, LayersWithoutSpectraKeepTheirQuantiser) {
  TableLayer plain = matrix("plain", {}, {2});
  TableLayer small = matrix("small", {2, 1}, {60});  // 60 columns do not pay
  const Table none{{plain, small, bias()}};
  EXPECT_THAT(refusal("spectral(ratio=2)", none), HasSubstr("no layer has singular values and a low-rank candidate"));
  const Table table{{plain, small, matrix("a", {2, 1}, {1, 2})}};
  EXPECT_EQ(specs_of("spectral(ratio=2)", table), (Specs{"q4", "q4", "powersgd(rank=2)"}));
}

/// What is no compressor, in a table made by hand for example, is of no rank.
TEST(Spectral, CandidatesThatAreNoCompressorsArePassedOver) {
  Table table{{matrix("a", {10, 1}, {1, 2}), bias()}};
  for (TableLayer& layer : table.layers) layer.candidates.insert(layer.candidates.begin(), {"c0", 1, 0});
  for (TableLayer& layer : table.layers) layer.reference = 1;
  EXPECT_EQ(specs_of("spectral(bytes=2800)", table), (Specs{"powersgd(rank=2)", "none"}));
  EXPECT_EQ(specs_of("spectral(bytes=2799)", table), (Specs{"powersgd(rank=1)", "none"}));
  table.layers[0].candidates.resize(2);
  EXPECT_THAT(refusal("spectral(bytes=2800)", table), HasSubstr("no layer has singular values and a low-rank"));
}

TEST(Spectral, BadSpecsAreRefused) {
  for (const char* const spec : {"spectral", "spectral(ratio=2,bytes=3)", "spectral(quantiser=q4)"}) {
    try {
      (void)make_policy(spec);
      ADD_FAILURE() << spec;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("which budget? One of ratio=R, bytes=B"));
    }
  }
}

/// A threshold between each two values, from below: the first plan that keeps the budget.
TEST(Spectral, IsTheLowestThresholdThatKeepsTheBudget) {
  std::mt19937 random(1);
  const auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  int plans = 0;
  for (int i = 0; i < 300; ++i) {
    Table table{{bias()}};
    const std::size_t layers = 1 + below(5);
    for (std::size_t l = 0; l < layers; ++l) {
      std::vector<double> values;
      for (std::size_t k = 0; k < 1 + below(12); ++k) values.push_back(static_cast<double>(below(20)));
      std::sort(values.rbegin(), values.rend());
      std::vector<std::size_t> ranks;
      for (std::size_t rank = 1; rank <= 10; ++rank)
        if (below(3) > 0 || rank == 10) ranks.push_back(rank);
      table.layers.push_back(matrix(fmt::format("m{}", l), values, ranks));
    }
    const std::uint64_t budget = 400 + below(12'000 * layers);
    std::optional<Choice> wanted;
    for (int step = 0; step <= 40'000 && !wanted; ++step) {
      const double threshold = step / 40'000.0;
      Choice choice{0};
      for (std::size_t l = 1; l < table.layers.size(); ++l) {
        const TableLayer& layer = table.layers[l];
        const double largest = layer.singular_values.front();
        const auto kept = static_cast<std::size_t>(
            std::count_if(layer.singular_values.begin(), layer.singular_values.end(),
                          [&](double value) { return largest > 0 && value >= (threshold - 1e-9) * largest; }));
        std::size_t c = 1;
        while (c + 1 < layer.candidates.size() && layer.candidates[c].bytes < 1200 * kept) ++c;
        choice.push_back(layer.candidates[c].bytes < 10'000 ? c : 0);
      }
      if (totals(table, choice).bytes <= budget) wanted = choice;
    }
    const std::string policy = fmt::format("spectral(bytes={})", budget);
    if (!wanted) {
      EXPECT_THAT(refusal(policy, table), HasSubstr("no plan"));
      continue;
    }
    ++plans;
    EXPECT_EQ(choice_of(table, make_policy(policy).plan(table)), *wanted) << policy << "\n" << to_json(table);
  }
  EXPECT_GT(plans, 200);
}

}  // namespace
}  // namespace gradwire::testing
