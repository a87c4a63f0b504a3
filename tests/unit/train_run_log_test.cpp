// RunLog: what is kept of a run, however long, and how it is written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "gradwire/error.hpp"
#include "gradwire/run_log.hpp"

namespace gradwire {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr std::uint64_t kTooMuch = (std::uint64_t{1} << 53) + 1;  // beyond what JSON's readers keep exact

RunFacts facts() { return {.name = "run", .compressor = "q4", .policy = "uniform", .transport = "local", .ranks = 4}; }

StepReport step_report(std::uint64_t step) {
  StepReport report;
  report.step = step;
  report.wire_bytes = 100 + step;
  report.dense_bytes = 1000;
  report.exposed_us = 0.5 * static_cast<double>(step);
  report.skipped = step % 10 == 0;
  report.params = {{"weight", "q4", "ef", 800, 0.25}};
  report.buckets = {{{0}, 1, 9, 2, 3, 2.5, 100 + step}};
  return report;
}

Plan one_layer_plan(const std::string& spec, std::uint64_t bytes) {
  Plan plan;
  plan.layers = {{"weight", spec, bytes, 0.5}};
  plan.bytes = bytes;
  plan.error = 0.5;
  plan.squared_error = 0.25;
  return plan;
}

std::vector<std::uint64_t> steps_of(const Json& list) {
  std::vector<std::uint64_t> steps;
  for (const Json& each : list) steps.push_back(each.at("step"));
  return steps;
}

template <class Call>
void expect_error(Call call, Errc code, const std::string& message) {
  try {
    call();
    ADD_FAILURE() << "no error; expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_THAT(error.what(), HasSubstr(message));
  }
}

TEST(RunLogSteps, ShortRunsAreKeptStepByStep) {
  RunLog log(facts());
  for (const std::uint64_t step : {1u, 2u, 3u}) log.step(step_report(step));
  const Json json = Json::parse(log.json());
  EXPECT_EQ(json.at("steps").at("first"), Json({1, 2, 3}));
  EXPECT_EQ(json.at("steps").at("count"), Json({1, 1, 1}));
  EXPECT_EQ(json.at("steps").at("wire_bytes"), Json({101.0, 102.0, 103.0}));
  EXPECT_EQ(json.at("totals").at("steps"), 3);
  EXPECT_EQ(json.at("totals").at("wire_bytes"), 306.0);
  EXPECT_EQ(json.at("parameters").at(0).at("name"), "weight");
  EXPECT_EQ(json.at("parameters").at(0).at("count"), 800);
}

TEST(RunLogSteps, LongRunsAreMeansOfEqualGroupsAndNothingIsLost) {
  RunLog log(facts());
  constexpr std::uint64_t kSteps = 9001;
  for (std::uint64_t step = 1; step <= kSteps; ++step) log.step(step_report(step));
  const Json json = Json::parse(log.json());
  const Json& steps = json.at("steps");
  const std::size_t groups = steps.at("first").size();
  EXPECT_EQ(groups, (kSteps + 7) / 8);  // in groups of 8 there are less than 2000
  double wire = 0;
  std::uint64_t next = 1;
  std::uint64_t skipped = 0;
  for (std::size_t i = 0; i < groups; ++i) {
    EXPECT_EQ(steps.at("first").at(i), next);
    const std::uint64_t count = steps.at("count").at(i);
    EXPECT_EQ(count, i + 1 < groups ? 8 : kSteps - next + 1);
    // Of steps that follow each other the mean is in the middle.
    EXPECT_DOUBLE_EQ(steps.at("wire_bytes").at(i),
                     100 + static_cast<double>(next) + static_cast<double>(count - 1) / 2);
    wire += steps.at("wire_bytes").at(i).get<double>() * static_cast<double>(count);
    skipped += steps.at("skipped").at(i).get<std::uint64_t>();
    next += count;
  }
  EXPECT_EQ(next, kSteps + 1);
  EXPECT_DOUBLE_EQ(wire, json.at("totals").at("wire_bytes"));
  EXPECT_EQ(skipped, kSteps / 10);
  EXPECT_EQ(json.at("totals").at("skipped_steps"), kSteps / 10);
}

TEST(RunLogSteps, ComeInOrder) {
  RunLog log(facts());
  log.step(step_report(7));
  expect_error([&] { log.step(step_report(7)); }, Errc::invalid_argument, "step 7 after step 7");
}

TEST(RunLogSteps, WhatNoReaderWouldTakeIsRefusedAtOnce) {
  RunLog log(facts());
  log.step(step_report(1));
  const std::string before = log.json();
  const auto refuse = [&](const auto& change, const std::string& message) {
    StepReport wrong = step_report(2);
    change(wrong);
    expect_error([&] { log.step(wrong); }, Errc::invalid_argument, "run log: step " + message);
  };
  using Report = StepReport&;
  refuse([](Report r) { r.step = kTooMuch; }, "9007199254740993; accepted: 1..9007199254740992");
  refuse([](Report r) { r.exposed_us = kNan; }, "2: exposed_us is nan; accepted: 0..1e+15");
  refuse([](Report r) { r.encode_us = -1; }, "2: encode_us is -1; accepted: 0..1e+15");
  refuse([](Report r) { r.wire_us = kInfinite; }, "2: wire_us is inf; accepted: 0..1e+15");
  refuse([](Report r) { r.decode_us = 2e15; }, "2: decode_us is 2000000000000000; accepted: 0..1e+15");
  refuse([](Report r) { r.wire_bytes = kTooMuch; }, "2: wire_bytes is 9007199254740993");
  refuse([](Report r) { r.dense_bytes = kTooMuch; }, "2: dense_bytes is 9007199254740993");
  refuse([](Report r) { r.dense_fallbacks = kTooMuch; }, "2: dense_fallbacks is 9007199254740993");
  refuse([](Report r) { r.params[0].count = kTooMuch; }, "2: parameter \"weight\": count is 9007199254740993");
  refuse([](Report r) { r.params[0].residual_norm = kNan; }, "2: parameter \"weight\": residual_norm is nan");
  refuse([](Report r) { r.params[0].name = "\xFF"; }, "2: a name or spec cannot be written, as it is no UTF-8");
  refuse([](Report r) { r.params.clear(); }, "2: 0 parameters, but a bucket has parameter 0");
  refuse([](Report r) { r.buckets[0].params[0] = 1; }, "2: 1 parameters, but a bucket has parameter 1");
  refuse([](Report r) { r.buckets[0].launch_us = -1; }, "2: bucket 0: launch_us is -1; accepted: 0..1e+15");
  refuse([](Report r) { r.buckets[0].done_us = 0.5; }, "2: bucket 0: done_us is 0.5, before its launch at 1");
  refuse([](Report r) { r.buckets[0].wire_us = kNan; }, "2: bucket 0: wire_us is nan");
  refuse([](Report r) { r.buckets[0].wire_bytes = kTooMuch; }, "2: bucket 0: wire_bytes is 9007199254740993");
  refuse(
      [](Report r) {
        r.params.clear();
        r.buckets.clear();
      },
      "2: 0 parameters, but a bucket has parameter 0");  // of step 1
  EXPECT_EQ(log.json(), before) << "nothing of them is in the log";
  log.step(step_report(2));
}

TEST(RunLogEvents, WhatNoReaderWouldTakeIsRefusedAtOnce) {
  RunLog log(facts());
  const std::string before = log.json();
  constexpr std::uint64_t kLate = std::uint64_t{1} << 53;  // one more where the first step is 1
  const std::string late = "step 9007199254740992; accepted: 0..9007199254740991";
  expect_error([&] { log.event({kLate, PlanOutcome::kept, ""}); }, Errc::invalid_argument, "run log: " + late);
  expect_error([&] { log.plan(kLate, one_layer_plan("q4", 1)); }, Errc::invalid_argument, "run log: " + late);
  expect_error([&] { log.accuracy(kTooMuch, 1); }, Errc::invalid_argument,
               "run log: step 9007199254740993; accepted: 0..9007199254740992");
  expect_error([&] { log.event({1, PlanOutcome::failed, "\xFF"}); }, Errc::invalid_argument, "no UTF-8");
  expect_error([&] { log.accuracy(1, 1, "\xFF"); }, Errc::invalid_argument, "no UTF-8");
  EXPECT_EQ(log.json(), before);
}

TEST(RunLogTimelines, OfTheFirstStepsOfEachPlanAndOfTheLast) {
  RunLog log(facts());
  for (std::uint64_t step = 1; step <= 30; ++step) {
    if (step == 10 || step == 11 || step == 20) log.plan(step - 1, one_layer_plan("q4", 400));
    log.step(step_report(step));
  }
  const Json timelines = Json::parse(log.json()).at("timelines");
  EXPECT_EQ(steps_of(timelines), (std::vector<std::uint64_t>{1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 30}));
  const Json bucket = timelines.at(4).at("buckets").at(0);
  EXPECT_EQ(bucket, Json({{"params", {0}},
                          {"launch_us", 1.0},
                          {"done_us", 9.0},
                          {"encode_us", 2.0},
                          {"wire_us", 3.0},
                          {"decode_us", 2.5},
                          {"wire_bytes", 111}}));
}

TEST(RunLogTimelines, AreBounded) {
  RunLog log(facts());
  for (std::uint64_t step = 1; step <= 2000; ++step) {
    log.plan(step - 1, one_layer_plan("q4", 400));
    log.step(step_report(step));
  }
  const std::vector<std::uint64_t> steps = steps_of(Json::parse(log.json()).at("timelines"));
  ASSERT_EQ(steps.size(), 64u);
  EXPECT_EQ(steps.front(), 1u);
  EXPECT_EQ(steps[31], 32u);
  EXPECT_EQ(steps.back(), 2000u);
}

TEST(RunLogPlans, SayWhatTheUniformSettingWouldHaveGiven) {
  Table table;
  table.layers = {{"weight", 800, 1, {{"q2", 200, 0.5}, {"q4", 400, 0.125}}, {20, 40}, 2.0}};
  RunLog log(facts());
  log.plan(5, one_layer_plan("q2", 200), &table);
  const Json plan = Json::parse(log.json()).at("plans").at(0);
  EXPECT_EQ(plan.at("step"), 6);  // five steps were done before
  const Json layer = plan.at("layers").at(0);
  EXPECT_EQ(layer, Json({{"name", "weight"},
                         {"spec", "q2"},
                         {"bytes", 200},
                         {"error", 0.5},
                         {"count", 800},
                         {"shape", {20, 40}},
                         {"norm", 2.0},
                         {"reference", {{"spec", "q4"}, {"bytes", 400}, {"error", 0.125}}}}));
  const Plan read = plan_from_json(plan.dump());
  EXPECT_EQ(read.layers.at(0).spec, "q2");
  EXPECT_EQ(read.bytes, 200u);
}

TEST(RunLogPlans, TheNewestOfAStepCountsAndTheyComeInOrder) {
  RunLog log(facts());
  log.plan(5, one_layer_plan("q2", 200));
  log.plan(5, one_layer_plan("q8", 800));
  const Json plans = Json::parse(log.json()).at("plans");
  ASSERT_EQ(plans.size(), 1u);
  EXPECT_EQ(plans.at(0).at("layers").at(0).at("spec"), "q8");
  expect_error([&] { log.plan(4, one_layer_plan("q2", 200)); }, Errc::invalid_argument,
               "a plan of step 4 after one of step 5");
  expect_error([&] { log.plan(6, Plan{}); }, Errc::invalid_argument, "the plan of step 6 has no layers");
}

TEST(RunLogPlans, HaveTheSumsOfTheirLayers) {
  Plan plan;
  plan.layers = {{"a", "q2", 688, 3.5}, {"b", "topk(0.01)", 208, 7.0}};
  RunLog log(facts());
  log.plan(0, plan);
  const Json json = Json::parse(log.json()).at("plans").at(0);
  EXPECT_EQ(json.at("bytes"), 896);
  EXPECT_EQ(json.at("error"), 10.5);
  EXPECT_EQ(json.at("squared_error"), 61.25);
  EXPECT_EQ(plan_from_json(json.dump()).bytes, 896u);

  const auto refuse = [&](const auto& change, const std::string& message) {
    Plan wrong = plan;
    change(wrong);
    expect_error([&] { log.plan(1, wrong); }, Errc::invalid_argument, "run log: the plan of step 1: " + message);
  };
  refuse([](Plan& p) { p.bytes = 897; }, "plan: \"bytes\" is 897, but the layers sum to 896");
  refuse([](Plan& p) { p.error = 10; }, "plan: \"error\" is 10, but the layers sum to 10.5");
  refuse([](Plan& p) { p.squared_error = kNan; }, "plan: \"squared_error\" is nan, but the layers sum to 61.25");
  refuse([](Plan& p) { p.layers[1].error = kNan; }, "plan: layer 1 (\"b\"): error is nan");
  refuse([](Plan& p) { p.layers[1].error = -7; }, "plan: layer 1 (\"b\"): error is -7");
  refuse([](Plan& p) { p.layers[1].bytes = kTooMuch; },
         "plan: layer 1 (\"b\"): bytes sum to more than 9007199254740992");
  refuse([](Plan& p) { p.layers[1].spec = ""; }, "plan: layer 1: name or spec is empty");
  refuse([](Plan& p) { p.exposed_ms = kInfinite; }, "plan: \"exposed_ms\" is inf; accepted: from 0 on");
  refuse([](Plan& p) { p.solver_ms = -1; }, "plan: \"solver_ms\" is -1; accepted: from 0 on");
  refuse([](Plan& p) { p.bound = kNan; }, "plan: \"bound\" is nan; accepted: from 0 on");
  refuse(
      [](Plan& p) {
        p.limit = PlanLimit::bytes;
        p.budget = -1;
      },
      "plan: \"budget\" is -1; accepted: from 0 on");
  EXPECT_EQ(Json::parse(log.json()).at("plans").size(), 1u);
}

/// As a hook without a policy has them.
TEST(RunLogPlans, LayersWithoutANameOfTheirOwnAreToldApart) {
  Plan plan;
  for (const char* name : {"w", "w (2)", "w", "", "w", ""}) plan.layers.push_back({name, "q4", 8, 1});
  RunLog log(facts());
  log.plan(0, plan);
  const Plan read = plan_from_json(Json::parse(log.json()).at("plans").at(0).dump());
  std::vector<std::string> names;
  for (const PlanLayer& layer : read.layers) names.push_back(layer.name);
  EXPECT_EQ(names, (std::vector<std::string>{"w", "w (2)", "w (3)", "(no name)", "w (4)", "(no name) (2)"}));
}

TEST(RunLogPlans, TablesAreLookedAt) {
  const auto refuse = [](const TableLayer& layer, const std::string& message) {
    RunLog log(facts());
    const Table table{{layer}};
    expect_error([&] { log.plan(0, one_layer_plan("q2", 200), &table); }, Errc::invalid_argument,
                 "run log: the plan of step 0: " + message);
  };
  refuse({"weight", 800, 0, {{"q2", 200, kNan}}}, "table: layer \"weight\": candidate 0 (\"q2\"): error is nan");
  refuse({"weight", 800, 0, {{"q2", 200, 0.5}}, {}, kInfinite}, "table: layer \"weight\": norm is inf");
  refuse({"weight", kTooMuch, 0, {{"q2", 200, 0.5}}},
         "table: layer \"weight\": 9007199254740993 elements; accepted: 1..9007199254740992");
  RunLog log(facts());
  const Table none;
  log.plan(0, one_layer_plan("q2", 200), &none);  // as a hook has it before the first
}

TEST(RunLogPlans, TheOldestAndTheNewestStay) {
  RunLog log(facts());
  for (std::uint64_t step = 1; step <= 300; ++step) {
    log.plan(step - 1, one_layer_plan("q4", step));
    for (std::uint64_t i = 0; i < 5; ++i) log.event({step - 1, PlanOutcome::kept, "why"});
  }
  const Json json = Json::parse(log.json());
  const std::vector<std::uint64_t> plans = steps_of(json.at("plans"));
  ASSERT_EQ(plans.size(), 256u);
  EXPECT_EQ(plans[127], 128u);
  EXPECT_EQ(plans[128], 173u);
  EXPECT_EQ(plans.back(), 300u);
  EXPECT_EQ(json.at("plans_left_out"), 44);
  EXPECT_EQ(json.at("events").size(), 1000u);
  EXPECT_EQ(json.at("events_left_out"), 500);
  EXPECT_EQ(json.at("events").at(999), Json({{"step", 300}, {"outcome", "kept"}, {"detail", "why"}}));
}

TEST(RunLogCurves, AreThinnedAndEndWithTheNewestPoint) {
  RunLog log(facts());
  log.accuracy(3, std::numeric_limits<double>::quiet_NaN(), "loss");
  for (std::uint64_t step = 1; step <= 10'000; ++step) log.accuracy(step, 0.5 * static_cast<double>(step));
  const Json curves = Json::parse(log.json()).at("curves");
  ASSERT_EQ(curves.size(), 2u);
  EXPECT_EQ(curves.at(0), Json({{"name", "loss"}, {"points", {{3, nullptr}}}}));
  EXPECT_EQ(curves.at(1).at("name"), "accuracy");
  const Json& points = curves.at(1).at("points");
  EXPECT_LE(points.size(), 2001u);
  EXPECT_GE(points.size(), 1000u);
  EXPECT_EQ(points.front(), Json({1, 0.5}));
  EXPECT_EQ(points.at(1), Json({9, 4.5}));  // each 8th
  EXPECT_EQ(points.back(), Json({10'000, 5000.0}));
  expect_error([&] { log.accuracy(10'000, 1); }, Errc::invalid_argument,
               "curve \"accuracy\": step 10000 after step 10000");
  for (int i = 2; i < 16; ++i) log.accuracy(1, 1, "curve " + std::to_string(i));
  expect_error([&] { log.accuracy(1, 1, "another"); }, Errc::invalid_argument,
               "curve \"another\" is one too many; at most 16");
}

TEST(RunLogFacts, RanksThatCannotBeAreRefused) {
  expect_error([] { RunLog({.name = "", .compressor = "", .policy = "", .transport = "", .ranks = 0}); },
               Errc::invalid_argument, "0 ranks; expected 1 to 1000000000");
  expect_error([] { RunLog({.name = "", .compressor = "", .policy = "", .transport = "", .ranks = 2, .rank = 2}); },
               Errc::invalid_argument, "rank 2 of 2");
  expect_error([] { RunLog({.name = "", .compressor = "", .policy = "", .transport = "", .ranks = 1'000'000'001}); },
               Errc::invalid_argument, "1000000001 ranks; expected 1 to 1000000000");
  expect_error([] { RunLog({.name = "\xFF", .compressor = "", .policy = "", .transport = "", .ranks = 1}); },
               Errc::invalid_argument, "no UTF-8");
}

TEST(RunLogFile, IsThereWholeOrNotAtAll) {
  const fs::path folder = fs::temp_directory_path() / ("gradwire-run-log-" + std::to_string(::getpid()));
  fs::create_directory(folder);
  RunLog log(facts());
  log.step(step_report(1));
  const fs::path path = folder / "run.json";
  log.write(path.string());
  log.write(path.string());  // over the old one
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  EXPECT_EQ(text.str(), log.json());

  const fs::path taken = folder / "taken.json";
  fs::create_directory(taken);
  expect_error([&] { log.write(taken.string()); }, Errc::io, "cannot write " + taken.string() + ": ");
  const fs::path nowhere = folder / "none" / "run.json";
  expect_error([&] { log.write(nowhere.string()); }, Errc::io,
               "cannot write " + nowhere.string() + ": No such file or directory");
  const fs::path pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  expect_error([&] { log.write(pipe.string()); }, Errc::io, pipe.string() + ": it exists and is not a regular file");
  EXPECT_TRUE(fs::is_fifo(pipe));
  expect_error(
      [&] {
        log.plan(1, [] {
          Plan plan = one_layer_plan("q4", 1);
          plan.layers[0].name = "\xFF";
          return plan;
        }());
      },
      Errc::invalid_argument, "no UTF-8");
  std::size_t files = 0;
  for ([[maybe_unused]] const fs::directory_entry& entry : fs::directory_iterator(folder)) ++files;
  EXPECT_EQ(files, 3u);  // run.json, taken.json and pipe: nothing temporary
  fs::remove_all(folder);
}

}  // namespace
}  // namespace gradwire
