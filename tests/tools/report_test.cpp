// `gradwire report` as a user runs it: what it reads, and what it says of what it cannot. report_browser_test.py looks
// at the page.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tools/run_command.hpp"

#include "gradwire/run_log.hpp"

namespace gradwire::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

Json good_run() {
  Table table;
  table.layers = {{"weight", 800, 1, {{"q2", 200, 0.5}, {"q4", 400, 0.125}}}};
  Plan plan;
  plan.policy = "budget(ratio=16)";
  plan.layers = {{"weight", "q2", 200, 0.5}};
  plan.bytes = 200;
  plan.error = 0.5;
  plan.squared_error = 0.25;
  RunLog log({.name = "run", .compressor = "q4", .policy = plan.policy, .transport = "local", .ranks = 4});
  for (const std::uint64_t step : {1u, 2u, 3u}) {
    StepReport report;
    report.step = step;
    report.params = {{"weight", "q4", "ef", 800, 0.25}};
    report.buckets = {{{0}, 1, 9, 2, 3, 2.5, 100}};
    log.step(report);
    if (step < 3) log.plan(step, plan, &table);
  }
  log.event({1, PlanOutcome::adopted, "why"});
  log.accuracy(1, 0.25);
  log.accuracy(3, 0.5);
  return Json::parse(log.json());
}

class ReportCommand : public ::testing::Test {
 protected:
  CommandResult report(const std::string& text) const {
    write_file(run_, text);
    return run_gradwire({"report", run_, "-o", page_});
  }
  /// `change` at `place`, a JSON pointer, makes this error, and no page.
  void expect_refused(const std::string& place, const Json& change, const std::string& message) const {
    Json run = good_run();
    run[Json::json_pointer(place)] = change;
    const CommandResult result = report(run.dump());
    EXPECT_EQ(result.exit_code, 1) << place;
    EXPECT_THAT(result.err, HasSubstr("gradwire: error (invalid_argument): " + run_ + ": "));
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(folder_.files(), std::vector<std::string>{"run.json"});
  }

  TemporaryFolder folder_;
  std::string run_ = folder_ / "run.json", page_ = folder_ / "page.html";
};

TEST_F(ReportCommand, WritesOnePage) {
  const CommandResult result = report(good_run().dump());
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("3 steps, 2 plans"));
  const std::string page = read_file(page_);
  EXPECT_THAT(page, HasSubstr("default-src 'none'; style-src 'sha256-"));
  EXPECT_THAT(page, HasSubstr("weight"));
  EXPECT_THAT(page, Not(HasSubstr("{{")));
  EXPECT_EQ(folder_.files(), (std::vector<std::string>{"page.html", "run.json"}));
}

/// Two parameters of one name, two without, and a plan by hand: a hook without a policy trains so.
TEST_F(ReportCommand, ReadsWhatRunLogTakes) {
  RunLog log({.name = "", .compressor = "", .policy = "", .transport = "", .ranks = 1'000'000'000});
  constexpr std::uint64_t kMost = std::uint64_t{1} << 53;
  Plan plan;
  for (const char* name : {"w", "w", "", ""}) plan.layers.push_back({name, "q4", kMost / 4, 1e120});
  StepReport report;
  for (const PlanLayer& layer : plan.layers) report.params.push_back({layer.name, "q4", "", kMost, 1.7e308});
  report.buckets = {{{0, 3}, 0, 1e15, 1e15, 1e15, 1e15, kMost}, {{}, 0, 0, 0, 0, 0, 0}};
  for (const std::uint64_t step : {std::uint64_t{1}, kMost}) {
    report.step = step;
    report.wire_bytes = report.dense_bytes = report.dense_fallbacks = kMost;
    report.encode_us = report.wire_us = report.decode_us = report.exposed_us = 1e15;
    log.step(report);
    const Table none;
    log.plan(step - 1, plan, &none);
    log.event({step - 1, PlanOutcome::adopted, ""});
    log.accuracy(step - 1, -1.7e308);
    log.accuracy(step, 1.7e308);
  }
  const CommandResult result = this->report(log.json());
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string page = read_file(page_);
  EXPECT_THAT(page, HasSubstr("w (2)"));
  EXPECT_THAT(page, HasSubstr("(no name) (2)"));
}

TEST_F(ReportCommand, CountsOfANameThatSeveralParametersHaveAreNotKnown) {
  Json run = good_run();
  for (Json& plan : run["plans"]) plan["layers"][0].erase("count");
  const auto shown = [&] {
    EXPECT_EQ(report(run.dump()).exit_code, 0);
    return read_file(page_);
  };
  EXPECT_THAT(shown(), HasSubstr("<td class=\"n\">800</td>"));
  run["parameters"].push_back(run["parameters"][0]);
  run["parameters"][1]["count"] = 900;
  EXPECT_THAT(shown(), Not(AnyOf(HasSubstr("<td class=\"n\">800</td>"), HasSubstr("<td class=\"n\">900</td>"))));
}

TEST_F(ReportCommand, KeysThatItDoesNotKnowAreIgnored) {
  Json run = good_run();
  run["more"] = {1, 2};
  run["plans"][0]["layers"][0]["more"] = nullptr;
  EXPECT_EQ(report(run.dump()).exit_code, 0);
}

TEST_F(ReportCommand, EscapesNames) {
  Json run = good_run();
  run["run"]["name"] = "</title><script>alert('run')</script>";
  run["events"][0]["detail"] = "a\x01<b>\"&amp;";
  ASSERT_EQ(report(run.dump()).exit_code, 0);
  const std::string page = read_file(page_);
  EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(page, HasSubstr("<h1>&lt;/title&gt;&lt;script&gt;alert(&#39;run&#39;)&lt;/script&gt;</h1>"));
  EXPECT_THAT(page, HasSubstr("<td>a\uFFFD&lt;b&gt;&quot;&amp;amp;</td>"));
}

TEST_F(ReportCommand, NamesThePlaceOfWhatIsWrong) {
  expect_refused("/format", "other", "\"format\" is not \"gradwire-run\"");
  expect_refused("/version", 2, "\"version\" is 2; this gradwire reads version 1");
  expect_refused("/run", 3, "\"run\" is 3; expected an object");
  expect_refused("/run/ranks", 0, "\"run.ranks\" is 0; expected 1 or more");
  expect_refused("/run/rank", 4, "\"run.rank\" is 4; there are 4 ranks");
  expect_refused("/totals/steps", -1, "\"totals.steps\" is -1; expected a whole number from 0 on");
  expect_refused("/steps/first/1", 1, "\"steps.first[1]\" is 1, but the steps before it go to 1");
  expect_refused("/steps/count/2", 0, "\"steps.count[2]\" is 0; expected 1 or more");
  expect_refused("/steps/wire_us", Json::array({1}), "\"steps.wire_us\" has 1 items, \"steps.first\" has 3");
  expect_refused("/steps/wire_us/1", "long", "\"steps.wire_us[1]\" is \"long\"; expected a number from 0 on");
  expect_refused("/plans/1/step", 2, "\"plans[1].step\" is 2, which is not after 2");
  expect_refused("/plans/0/layers/0/error", "much", "\"plans[0]\": plan: layer 0: \"error\" is \"much\"");
  expect_refused("/plans/0/bytes", 7, "\"plans[0]\": plan: \"bytes\" is 7, but the layers sum to 200");
  expect_refused("/plans/0/layers/0/reference/bytes", 0.5, "\"plans[0].layers[0].reference.bytes\" is 0.5");
  expect_refused("/events/0/outcome", nullptr, "\"events[0].outcome\" is null; expected a string");
  expect_refused("/timelines/0/buckets/0/params/0", 1, "\"timelines[0].buckets[0].params[0]\" is 1; there are 1 param");
  expect_refused("/timelines/0/buckets/0/done_us", 0.5,
                 "\"timelines[0].buckets[0].done_us\" is 0.5, before its launch");
  expect_refused("/curves/0/points/1/0", 1,
                 "\"curves[0].points[1]\": its step is 1, which is not after the one before");
  expect_refused("/curves/0/points/1", Json::array({5}), "\"curves[0].points[1]\" has 1 items; expected more");
}

TEST_F(ReportCommand, NamesWhatIsMissing) {
  for (const char* key :
       {"format", "version", "run", "totals", "parameters", "steps", "plans", "events", "timelines", "curves"}) {
    Json run = good_run();
    run.erase(key);
    const CommandResult result = report(run.dump());
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, HasSubstr(std::string("\"") + key));
  }
}

TEST_F(ReportCommand, RefusesOtherFiles) {
  EXPECT_THAT(report("{").err, HasSubstr(run_ + ": this is no JSON"));
  EXPECT_THAT(report("[]").err, HasSubstr(run_ + ": \"the file\" is []; expected an object"));
  const CommandResult deep = report("{\"format\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}");
  EXPECT_EQ(deep.exit_code, 1);
  EXPECT_THAT(deep.err, HasSubstr("(invalid_argument): " + run_ + ": this JSON nests deeper than 64"));
  EXPECT_THAT(run_gradwire({"report", folder_ / "none", "-o", page_}).err, HasSubstr("none: no such file"));
  EXPECT_THAT(run_gradwire({"report", folder_ / "", "-o", page_}).err, HasSubstr("a directory"));
}

TEST_F(ReportCommand, SaysHowItIsCalled) {
  EXPECT_THAT(run_gradwire({"report", "--help"}).out, HasSubstr("Usage: gradwire report RUN.json -o REPORT.html"));
  EXPECT_EQ(run_gradwire({"report"}).exit_code, 2);
  EXPECT_EQ(run_gradwire({"report", run_}).exit_code, 2);
  EXPECT_EQ(run_gradwire({"report", "-o", page_}).exit_code, 2);
  write_file(run_, good_run().dump());
  for (const std::string& out : {run_, folder_ / "./run.json", std::string()}) {
    const CommandResult result = run_gradwire({"report", run_, "-o", out});
    EXPECT_EQ(result.exit_code, 2) << out;
    EXPECT_THAT(result.err, HasSubstr(out.empty() ? "--out is empty" : "--out " + out + " is what is read"));
  }
  EXPECT_EQ(read_file(run_), good_run().dump());
}

}  // namespace
}  // namespace gradwire::test
