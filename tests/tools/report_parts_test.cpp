// The small parts of the page: text, numbers, axes, specs, and what is reckoned.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tools/report/line_chart.hpp"
#include "tools/report/markup.hpp"
#include "tools/report/run.hpp"
#include "tools/report/sections.hpp"
#include "tools/report/specs.hpp"
#include "tools/report/svg.hpp"

namespace gradwire::tools::report {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(ReportMarkup, ShortensInCharactersAndKeepsTheEnd) {
  EXPECT_EQ(shorten("encoder.layer.11.weight", 23), "encoder.layer.11.weight");
  EXPECT_EQ(shorten("encoder.layer.11.weight", 12), "en…11.weight");
  EXPECT_EQ(characters("é層a"), 3u);
  EXPECT_EQ(shorten("éé層層層層ab", 4), "…層ab");
  EXPECT_EQ(shorten("abc", 1), "…");
}

TEST(ReportMarkup, NumbersForPeople) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(999), "999 B");
  EXPECT_EQ(bytes_text(999.7), "1.00 kB");
  EXPECT_EQ(bytes_text(12345678), "12.3 MB");
  EXPECT_EQ(time_text(0.25), "0.25 µs");
  EXPECT_EQ(time_text(1500), "1.50 ms");
  EXPECT_EQ(time_text(2.5e6), "2.50 s");
  EXPECT_EQ(whole_text(1234567), "1\u202F234\u202F567");
  EXPECT_EQ(whole_text(12), "12");
  EXPECT_EQ(percent_text(1, 8), "12.5 %");
  EXPECT_EQ(percent_text(1, 0), "-");
  for (const auto& text : {bytes_text, time_text, whole_text, number_text, times_text})
    EXPECT_EQ(text(std::numeric_limits<double>::quiet_NaN()), "-");
}

TEST(ReportAxes, TicksAreRoundNumbersInside) {
  EXPECT_THAT(ticks(0, 1, 4), ElementsAre(0, DoubleNear(0.5, 1e-12), 1));
  EXPECT_THAT(ticks(1, 3000, 6), ElementsAre(500, 1000, 1500, 2000, 2500, 3000));
  EXPECT_THAT(ticks(-3, 3, 3), ElementsAre(-2, 0, 2));
}

TEST(ReportAxes, TicksThatRoundingWouldMergeAreLeftOut) {
  constexpr double kExact = 9007199254740992;  // 2^53
  EXPECT_THAT(ticks(0.3, std::nextafter(0.3, 1.0), 4), IsEmpty());
  EXPECT_THAT(ticks(kExact - 2, kExact - 1, 8), IsEmpty());
  EXPECT_THAT(ticks(kExact - 64, kExact, 4), ElementsAre(kExact - 52, kExact - 32, kExact - 12));
  EXPECT_THAT(ticks(1, 1, 4), IsEmpty());
  EXPECT_THAT(ticks(0, std::numeric_limits<double>::denorm_min(), 4), IsEmpty());
  constexpr double kMost = std::numeric_limits<double>::max();
  EXPECT_THAT(ticks(-kMost, kMost, 4), IsEmpty());
}

TEST(ReportAxes, ValuesThatDifferByRoundingHaveAnAxis) {
  LineChart chart;
  chart.format = number_text;
  chart.from_zero = false;
  chart.points = {1, 2};
  chart.series = {{"accuracy", "s1", {0.3, std::nextafter(0.3, 1.0)}}};
  EXPECT_THAT(draw(chart), HasSubstr("class=\"tick end\">0.32</text>"));
}

TEST(ReportAxes, ValuesThatNoAxisSpansAreLeftOut) {
  constexpr double kMost = std::numeric_limits<double>::max();
  constexpr double kLeast = std::numeric_limits<double>::denorm_min();
  for (const double value : {1e149, 1e300, kMost, -1e300, -kMost, kLeast, std::numeric_limits<double>::infinity()}) {
    for (const bool logarithmic : {false, true}) {
      LineChart chart;
      chart.format = number_text;
      chart.last_step = 4;
      chart.from_zero = false;
      chart.logarithmic = logarithmic;
      chart.points = {1, 2, 3, 4};
      chart.series = {{"loss", "s1", {1, value, 2, -value}}};
      std::string drawn = draw(chart);
      // What a tip says of a value is not a place.
      for (std::size_t tip = drawn.find("<title>"); tip != std::string::npos; tip = drawn.find("<title>", tip))
        drawn.erase(tip, drawn.find("</title>", tip) - tip);
      EXPECT_THAT(drawn, Not(HasSubstr("nan"))) << value << ' ' << logarithmic;
      EXPECT_THAT(drawn, Not(HasSubstr("inf"))) << value << ' ' << logarithmic;
      EXPECT_THAT(drawn, HasSubstr("M84.0,")) << "the values beside it are drawn";
    }
  }
}

TEST(ReportSpecs, FamilyByName) {
  EXPECT_EQ(family_of("none"), Family::floats);
  EXPECT_EQ(family_of("q4"), Family::quantised);
  EXPECT_EQ(family_of("q9"), Family::other);
  EXPECT_EQ(family_of("rotate(q2)"), Family::quantised);
  EXPECT_EQ(family_of("mx4|zstd"), Family::block_floats);
  EXPECT_EQ(family_of("topk(0.01)|q4"), Family::sparse);
  EXPECT_EQ(family_of("powersgd(4)"), Family::low_rank);
  EXPECT_EQ(family_of(""), Family::other);
}

TEST(ReportSpecs, EveryCompressorHasAFamily) {
  for (const CompressorInfo& info : list_compressors())
    EXPECT_NE(family_of(info.example), Family::other) << info.example;
}

TEST(ReportSpecs, BriefOnesTellThemApart) {
  EXPECT_EQ(brief("quantize(bits=4,bucket=512,norm=linf,round=nearest)"), "q4");
  EXPECT_EQ(brief("topk(density=0.01,select=exact)|quantize(bits=4,bucket=512)"), "topk(0.01)|q4");
  EXPECT_EQ(brief("rotate(inner=quantize(bits=2,bucket=512),block=4096)"), "rotate(q2)");
  EXPECT_EQ(brief("powersgd(rank=4,iterations=1,fallback=q4)"), "powersgd(4)");
  for (const char* odd : {"", "q4", "(", ")", "a(", "a)", "a(b", "|", "a||b", "=(,)"}) EXPECT_LE(brief(odd).size(), 5u);
  std::string deep = "q4";
  for (int i = 0; i < 1000; ++i) deep = "rotate(inner=" + deep + ")";
  EXPECT_EQ(brief(deep), deep) << "no compressor nests so, and a log may hold anything";
}

LoggedPlan logged_plan(std::uint64_t step, double bytes) {
  LoggedPlan plan;
  plan.step = step;
  plan.plan.limit = PlanLimit::bytes;
  plan.bytes = bytes;
  plan.reference_bytes = 400;
  return plan;
}

Run thinned_run() {
  report::Run run;
  run.facts.ranks = 2;  // a byte travels once
  run.totals.wire_bytes = 1;
  run.steps = {{.first = 1, .count = 10, .wire_bytes = 1000, .dense_bytes = 2000}};
  return run;
}

TEST(ReportBytes, UniformOnesAreWeighedByTheStepsOfEachPlan) {
  auto run = thinned_run();
  run.plans = {logged_plan(1, 100), logged_plan(6, 200)};
  EXPECT_THAT(bytes_chart(run), HasSubstr("steps 1 to 10, mean\nsent: 1.00 kB\nuniform setting (reckoned): 1.25 kB\n"));
  run.plans = {logged_plan(9, 150)};
  EXPECT_THAT(bytes_chart(run), HasSubstr("(reckoned): 1.05 kB\n")) << "until step 8 it was the uniform setting";
  run.plans = {logged_plan(11, 150)};
  EXPECT_THAT(bytes_chart(run), HasSubstr("(reckoned): 1.00 kB\n"));
  run.plans = {logged_plan(1, 100), logged_plan(10, kNone)};
  EXPECT_THAT(bytes_chart(run), Not(HasSubstr("(reckoned)"))) << "not known for the last step";
  run.steps = {{.first = 1, .count = 1, .wire_bytes = 1000}, {.first = 10, .count = 1, .wire_bytes = 1000}};
  EXPECT_THAT(bytes_chart(run), HasSubstr("step 1\nsent: 1.00 kB\nuniform setting (reckoned): 1.30 kB\n"));
}

TEST(ReportBytes, SaysWhatWasThinned) {
  auto run = thinned_run();
  run.plans = {logged_plan(1, 100)};
  const auto means = HasSubstr("Points are means of up to 10 steps.");
  EXPECT_THAT(bytes_chart(run), means);
  EXPECT_THAT(times_chart(run), means);
  EXPECT_THAT(bytes_chart(run), Not(HasSubstr("were not kept")));
  run.steps[0].count = 1;
  run.plans_left_out = 7;
  EXPECT_THAT(bytes_chart(run), Not(HasSubstr("Points are means")));
  for (const auto& section : {bytes_chart, budget_charts, plans_table})
    EXPECT_THAT(section(run), HasSubstr("7 plans between the first and the last ones were not kept in the log"));
}

TEST(ReportRun, StepsBeginWithTheFirstOfAnything) {
  report::Run run;
  EXPECT_EQ(run.first_step(), 1u);
  run.steps = {{.first = 20, .count = 5}};
  run.plans = {logged_plan(11, 100)};
  EXPECT_EQ(run.first_step(), 11u);
  run.curves = {{"accuracy", {{3, 0.5}, {30, 0.75}}}, {"loss", {}}};
  EXPECT_EQ(run.first_step(), 3u);
  EXPECT_EQ(run.last_step(), 30u);
}

}  // namespace
}  // namespace gradwire::tools::report
