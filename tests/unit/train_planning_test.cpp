// The parts of a hook's planning that are pure: which step does what, what is summed, and which plan is taken.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "train/planning/choice.hpp"
#include "train/planning/layers.hpp"
#include "train/planning/sums.hpp"
#include "train/planning/windows.hpp"

#include "gradwire/error.hpp"

namespace gradwire {
namespace {

using ::testing::HasSubstr;

PlanningOptions windows_of(std::uint64_t start, std::uint64_t period, std::uint64_t samples, std::uint64_t lag) {
  PlanningOptions options;
  options.start = start;
  options.period = period;
  options.samples = samples;
  options.lag = lag;
  options.watch = 5;
  return options;
}

TEST(Windows, EachHasItsSamplesBeforeItsExchangeAndOneComparison) {
  for (const std::uint64_t period : {2u, 3u, 7u, 8u, 100u, 501u}) {
    for (std::uint64_t samples = 1; samples <= period / 2; samples = 2 * samples + 1) {
      for (const std::uint64_t lag : {std::uint64_t{1}, period / 2, period - 1}) {
        const Windows windows(windows_of(10, period, samples, lag), 13);
        std::uint64_t last_exchange = 0;
        int exchanges = 0;
        int comparisons = 0;
        for (std::uint64_t step = 0; step < 13 + 4 * period; ++step) {
          const bool before = step < 13;
          EXPECT_FALSE(before && (windows.samples(step) || windows.exchanges(step) || windows.compares(step)));
          EXPECT_FALSE(windows.samples(step) && windows.exchanges(step));
          if (windows.compares(step)) {
            EXPECT_EQ(step, last_exchange + lag);
            ++comparisons;
          }
          if (!windows.exchanges(step)) continue;
          ++exchanges;
          EXPECT_EQ((step - 13) % period, period - 1);
          std::uint64_t sampled = 0;
          for (std::uint64_t s = step - (period - 1); s < step; ++s) sampled += windows.samples(s) ? 1 : 0;
          EXPECT_EQ(sampled, samples) << "period " << period;
          for (std::uint64_t s = step - (period - 1); s + period / 2 < step; ++s) EXPECT_FALSE(windows.samples(s));
          last_exchange = step;
        }
        EXPECT_EQ(exchanges, 4);
        EXPECT_EQ(comparisons, 3);  // the last is yet to come
      }
    }
  }
}

TEST(Windows, AreWatchedEveryFewSteps) {
  const Windows windows(windows_of(3, 8, 2, 1), 0);
  std::vector<std::uint64_t> watched;
  for (std::uint64_t step = 0; step < 20; ++step)
    if (windows.watches(step)) watched.push_back(step);
  EXPECT_EQ(watched, (std::vector<std::uint64_t>{7, 12, 17}));
}

PlannedLayer layer_of(const std::string& name, std::vector<std::string> specs) {
  PlannedLayer layer{.param = 0, .name = name, .count = 1000, .shape = {20, 50}};
  layer.travel.assign(specs.size(), 1);
  layer.specs = std::move(specs);
  return layer;
}

TableLayer measured(const std::string& name, double norm, std::vector<Candidate> candidates) {
  TableLayer layer{name, 1000, 0, std::move(candidates)};
  layer.shape = {20, 50};
  layer.norm = norm;
  return layer;
}

TEST(WindowSums, OfRanksAddUpAsFloats) {
  std::vector<PlannedLayer> layers{layer_of("a", {"q2", "none"}), layer_of("b", {"q4"})};
  layers[1].travel = {1.5};
  WindowSums one(layers);
  WindowSums other(layers);
  // Bytes that no float holds by itself.
  one.add(0, measured("a", 3, {{"q2", 100'000'001, 2}, {"none", 4000, 0}}), 10);
  other.add(0, measured("a", 5, {{"q2", 100'000'003, 1}, {"none", 4000, 0}}), 30);
  other.add(1, measured("b", 1, {{"q4", 1001, 0.5}}), 50);
  one.add(WindowSums::Steps{100, 2000});
  other.add(WindowSums::Steps{300, 6000});
  std::vector<float> sum(one.floats());
  std::vector<float> more(one.floats());
  one.pack(sum);
  other.pack(more);
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += more[i];
  WindowSums all(layers);
  all.unpack(sum);
  EXPECT_FALSE(all.out_of_range());

  const Table table = all.table(std::vector<double>{7, 8}, 1.5);
  ASSERT_EQ(table.layers.size(), 2u);
  const TableLayer& a = table.layers[0];
  EXPECT_EQ(a.candidates[0].bytes, 100'000'002u);
  EXPECT_FLOAT_EQ(static_cast<float>(a.candidates[0].error), std::sqrt(2.5F));
  EXPECT_FLOAT_EQ(static_cast<float>(a.norm), std::sqrt(17.0F));
  EXPECT_EQ(a.previous_norm, 7);
  EXPECT_EQ(a.ready_us, 20);
  EXPECT_EQ(a.candidates[1].us, 4000 * 1.5 * 400 / 8000);
  EXPECT_EQ(table.layers[1].candidates[0].bytes, 1502u) << "one and a half times 1001";

  one.clear();
  one.pack(sum);
  for (const float value : sum) EXPECT_EQ(value, 0);
}

TEST(WindowSums, ErrorsThatAreNextToNothingCountAsNone) {
  // As of a matrix of low rank: what higher ranks lose is rounding.
  const std::vector<PlannedLayer> layers{layer_of("a", {"q2", "q8"})};
  WindowSums sums(layers);
  sums.add(0, measured("a", 10, {{"q2", 10, 1e-12}, {"q8", 20, 1e-24}}), 0);
  std::vector<float> floats(sums.floats());
  sums.pack(floats);
  sums.unpack(floats);
  EXPECT_FALSE(sums.out_of_range());
  const Table table = sums.table(std::vector<double>{0}, 1);
  EXPECT_NEAR(table.layers[0].candidates[0].error, 1e-12, 1e-18);
  EXPECT_EQ(table.layers[0].candidates[1].error, 0);
}

TEST(WindowSums, SaysWhatItCannotAddUp) {
  const std::vector<PlannedLayer> layers{layer_of("a", {"q2"}), layer_of("b", {"q2"})};
  for (const double norm : {1e-16, 1e16}) {
    WindowSums sums(layers);
    sums.add(0, measured("a", norm, {{"q2", 10, 1}}), 0);
    std::vector<float> floats(sums.floats());
    sums.pack(floats);
    for (const float value : floats) EXPECT_TRUE(std::isfinite(value));
    sums.unpack(floats);
    EXPECT_TRUE(sums.out_of_range()) << norm;
    EXPECT_TRUE(sums.measured(0));
    EXPECT_FALSE(sums.measured(1));
    EXPECT_EQ(sums.table(std::vector<double>{0, 0}, 1).layers.size(), 1u);
  }
}

/// Two layers of norm 10; q2 loses half, q4 a tenth, none nothing.
Table two_layers() {
  Table table;
  for (const char* const name : {"a", "b"}) {
    table.layers.push_back({name, 1000, 1, {{"q2", 250, 5}, {"q4", 500, 1}, {"none", 4000, 0}}});
    table.layers.back().norm = 10;
  }
  return table;
}

PlanQuestion question_of(std::vector<std::string> current) {
  return {0.05, 0, std::move(current), std::vector<std::string>(2)};
}

std::vector<std::string> specs_of(const Plan& plan) {
  std::vector<std::string> specs;
  for (const PlanLayer& layer : plan.layers) specs.push_back(layer.spec);
  return specs;
}

TEST(ChoosePlan, TakesThePolicysWhereNothingSpeaksAgainstIt) {
  const PlanAnswer answer = choose_plan(two_layers(), make_policy("budget(bytes=800)"), question_of({"none", "none"}));
  EXPECT_FALSE(answer.kept);
  EXPECT_EQ(answer.plan.bytes, 750u);
  EXPECT_EQ(answer.plan.policy, "budget(bytes=800)");
}

TEST(ChoosePlan, KeepsTheCurrentOneWhereLittleIsWon) {
  Table table = two_layers();
  table.layers[0].candidates[1].bytes = 490;  // q4, q2 would be 740 instead of 750
  PlanQuestion question = question_of({"q2", "q4"});
  const Policy policy = make_policy("budget(error=4,norm=plain)");
  const PlanAnswer kept = choose_plan(table, policy, question);
  EXPECT_TRUE(kept.kept);
  EXPECT_EQ(specs_of(kept.plan), (std::vector<std::string>{"q2", "q4"}));
  EXPECT_EQ(kept.plan.bytes, 750u);
  EXPECT_THAT(kept.detail, HasSubstr("would save 1.3 %"));
  question.hysteresis = 0.01;
  EXPECT_FALSE(choose_plan(table, policy, question).kept);
}

TEST(ChoosePlan, OnlyTimeIsSavedWherePoliciesSaveTime) {
  // Bytes stay where they are; by time the other plan is twice as good.
  Table table = two_layers();
  for (TableLayer& layer : table.layers) {
    layer.candidates = {{"q2", 500, 1, 10}, {"q4", 500, 1, 100}, {"none", 4000, 0, 400}};
    layer.ready_us = 1;
  }
  const PlanQuestion question = question_of({"q4", "q4"});
  EXPECT_TRUE(choose_plan(table, make_policy("budget(error=1)"), question).kept);
  EXPECT_FALSE(choose_plan(table, make_policy("lgreco(objective=time)"), question).kept);
}

TEST(ChoosePlan, ACurrentOneOverTheLimitIsNotKept) {
  PlanQuestion question = question_of({"q4", "q4"});
  question.hysteresis = 0.9;
  EXPECT_FALSE(choose_plan(two_layers(), make_policy("budget(bytes=800)"), question).kept);
  EXPECT_TRUE(choose_plan(two_layers(), make_policy("budget(bytes=995)"), question).kept) << "to 1 %";
}

TEST(ChoosePlan, TheUsersLimitComesBeforeThePolicyAndTheCurrentPlan) {
  PlanQuestion question = question_of({"q2", "q2"});
  question.max_error = 0.1;
  const PlanAnswer answer = choose_plan(two_layers(), make_policy("fixed(q2)"), question);
  EXPECT_FALSE(answer.kept);
  EXPECT_THAT(answer.detail, HasSubstr("over the limit of 0.1"));
  EXPECT_LE(answer.plan.squared_error, 0.01 * 200);
  question.max_error = 0.2;
  EXPECT_EQ(specs_of(choose_plan(two_layers(), make_policy("fixed(q2)"), question).plan),
            (std::vector<std::string>{"q4", "q4"}));
  Table lossless = two_layers();  // q4 loses nothing here, and q3 neither
  for (TableLayer& layer : lossless.layers) {
    layer.candidates[1].error = 0;
    layer.candidates.push_back({"q3", 375, 0});
  }
  EXPECT_EQ(specs_of(choose_plan(lossless, make_policy("fixed(q2)"), question).plan),
            (std::vector<std::string>{"q3", "q3"}));
  question.max_error = 1e-9;
  EXPECT_EQ(choose_plan(two_layers(), make_policy("fixed(q2)"), question).plan.squared_error, 0);
}

TEST(ChoosePlan, WhatAGuardRuledOutIsNoCandidate) {
  PlanQuestion question = question_of({"q4", "q4"});
  question.forbidden[0] = "q2";
  EXPECT_EQ(specs_of(choose_plan(two_layers(), make_policy("budget(ratio=10)"), question).plan),
            (std::vector<std::string>{"q4", "q2"}));
  // The reference itself, too: what comes next to it stands in for it.
  question.forbidden = {"q4", ""};
  EXPECT_EQ(specs_of(choose_plan(two_layers(), make_policy("uniform"), question).plan),
            (std::vector<std::string>{"none", "q4"}));
}

TEST(SaferSpec, HalvesTheErrorAsCheaplyAsItCan) {
  const Table table = two_layers();
  EXPECT_EQ(safer_spec(table.layers[0], "q2"), "q4");
  EXPECT_EQ(safer_spec(table.layers[0], "q4"), "none");
  EXPECT_EQ(safer_spec(table.layers[0], "unheard of"), "none");
}

/// Of `ranks` on one node, or on nodes of `each`.
double travel(const std::string& spec, std::string_view algorithm, int ranks, int each = 1 << 20,
              Space space = Space::host) {
  std::vector<int> nodes;
  for (int rank = 0; rank < ranks; ++rank) nodes.push_back(rank / each);
  return travel_of(make_compressor(spec), algorithm, nodes, space);
}

TEST(TravelOf, FramesThatAreGatheredGoFurther) {
  EXPECT_EQ(travel("q4", "auto", 16), 1);
  EXPECT_EQ(travel("topk(0.01)", "auto", 1), 1);
  EXPECT_EQ(travel("topk(0.01)", "auto", 2), 1);
  EXPECT_EQ(travel("topk(0.01)", "auto", 3), 1.5);
  EXPECT_EQ(travel("topk(0.01)", "auto", 16), 1.5) << "sparse_scatter";
  EXPECT_EQ(travel("topk(0.01)", "gather_sum", 16), 8);
  EXPECT_EQ(travel("q4", "gather_sum", 16), 8) << "whatever it is";
  EXPECT_EQ(travel("none", "gather_sum", 16), 1) << "but dense";
  EXPECT_EQ(travel("randomk(0.1)", "auto", 4), 1) << "its codes are summed";
  EXPECT_EQ(travel("powersgd(4)", "auto", 16), 1);
}

TEST(TravelOf, OnDevicesSparseFramesAreGathered) {
  const auto on_device = [](const std::string& spec, std::string_view algorithm, int ranks, int each = 1 << 20) {
    return travel(spec, algorithm, ranks, each, Space::device);
  };
  EXPECT_EQ(on_device("topk(0.01)", "auto", 16), 8);
  EXPECT_EQ(on_device("randomk(0.1)", "auto", 16), 1) << "adds up without decoding, as on hosts";
  EXPECT_EQ(on_device("thc", "auto", 16), 1);
  EXPECT_EQ(on_device("q4", "auto", 16), 1);
  EXPECT_EQ(on_device("topk(0.01)", "auto", 16, 4), 2);
}

TEST(TravelOf, ByNodesCountsWhatCrosses) {
  EXPECT_EQ(travel("topk(0.01)", "auto", 16, 4), 2) << "frames of four nodes";
  EXPECT_EQ(travel("q4", "auto", 16, 4), 1);
  EXPECT_EQ(travel("topk(0.01)", "auto", 9, 2), 1.5) << "the last node has one rank, so that sums do not go by nodes";
  EXPECT_EQ(travel("topk(0.01)", "hierarchical", 9, 2), 2.5);
  EXPECT_EQ(travel("topk(0.01)", "hierarchical", 9), 1) << "nothing crosses";
}

}  // namespace
}  // namespace gradwire
