// Schemes as text: a compressor, a rule and a schedule, in words and in steps.
#include <gmock/gmock.h>

#include "train/schedule.hpp"

#include "gradwire/compressor.hpp"
#include "gradwire/error.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

std::string canonical(const std::string& spec) { return std::string(make_compressor(spec).spec()); }

/// The compressor of a step as the hook has it: "none" where the step is dense.
std::string at(const Scheme& scheme, std::uint64_t step) {
  return scheme.schedule.warms_up(step) ? "none" : scheme.schedule.compressor_at(step);
}

/// Compressors with the first step of each, from step 0 until long after the last change.
void expect_stages(const std::string& text, const std::vector<Schedule::Stage>& stages) {
  const Scheme scheme = parse_scheme(text);
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const std::uint64_t end = i + 1 < stages.size() ? stages[i + 1].first : stages[i].first + 1'000'000;
    for (const std::uint64_t step : {stages[i].first, end - 1})
      EXPECT_EQ(at(scheme, step), canonical(stages[i].compressor)) << text << ", step " << step;
  }
}

TEST(Scheme, ACompressorAlone) {
  const Scheme scheme = parse_scheme("q4");
  EXPECT_EQ(scheme.compressor, canonical("q4"));
  EXPECT_EQ(scheme.rule, "");
  EXPECT_FALSE(scheme.schedule.drops_residual());
  expect_stages("q4", {{"q4", 0}});
  EXPECT_EQ(parse_scheme("topk(0.01)|q4").compressor, canonical("topk(0.01)|q4"));
}

TEST(Scheme, CompressorRuleAndTermsInAnyOrder) {
  const Scheme scheme = parse_scheme("topk(0.001)+dgc(0.9)+warmup(500)");
  EXPECT_EQ(scheme.compressor, canonical("topk(0.001)"));
  EXPECT_EQ(scheme.rule, "dgc(0.9)");
  EXPECT_EQ(scheme.schedule.dense_steps, 500u);
  for (const char* text :
       {"topk(0.001)+warmup(steps=10)+decay(0.9)+dgc(0.9)+every(steps=7)+reset(20)+ramp(q8,steps=3)",
        "topk(0.001)+ramp(q8,steps=3)+reset(steps=20)+every(7)+dgc(0.9)+decay(factor=0.9)+warmup(10)"}) {
    const Scheme other = parse_scheme(text);
    EXPECT_EQ(other.rule, "dgc(0.9)");
    EXPECT_EQ(other.schedule.dense_steps, 10u);
    EXPECT_EQ(other.schedule.dense_every, 7u);
    EXPECT_EQ(other.schedule.reset_every, 20u);
    EXPECT_EQ(other.schedule.decay, 0.9F);
    EXPECT_TRUE(other.schedule.drops_residual());
    ASSERT_EQ(other.schedule.stages.size(), 2u);
    EXPECT_EQ(other.schedule.stages[1].first, 13u);
  }
}

TEST(Scheme, WarmupComesFirstAndIsDense) {
  expect_stages("topk(0.001)+warmup(500)", {{"none", 0}, {"topk(0.001)", 500}});
  expect_stages("q4+ef+warmup(1)", {{"none", 0}, {"q4", 1}});
}

TEST(Scheme, ARampGoesThroughItsCompressors) {
  expect_stages("q4+ramp(q8,q6,steps=100)", {{"q8", 0}, {"q6", 100}, {"q4", 200}});
  expect_stages("topk(0.001)+ramp(topk(0.1),topk(0.01)|q8,f16,steps=10)+ef21",
                {{"topk(0.1)", 0}, {"topk(0.01)|q8", 10}, {"f16", 20}, {"topk(0.001)", 30}});
  expect_stages("q4+ramp(q8,q6,steps=100)+warmup(5)", {{"none", 0}, {"q8", 5}, {"q6", 105}, {"q4", 205}});
}

TEST(Scheme, EveryNthStepIsDense) {
  const Scheme scheme = parse_scheme("q4+every(5)+warmup(2)");
  for (std::uint64_t step = 0; step < 40; ++step) {
    EXPECT_EQ(scheme.schedule.warms_up(step), step < 2) << step;
    EXPECT_EQ(scheme.schedule.is_nth_step(step), step % 5 == 4) << step;
  }
  EXPECT_TRUE(parse_scheme("q4+every(1)").schedule.is_nth_step(17));
}

/// The paper's sparsities of 75, 93.75, 98.4375 and 99.6 %, then the scheme's own.
TEST(Scheme, DgcWarmsUpItsDensity) {
  expect_stages(
      "topk(0.001)+dgc(0.9,warmup=10)",
      {{"topk(0.25)", 0}, {"topk(0.0625)", 10}, {"topk(0.015625)", 20}, {"topk(0.004)", 30}, {"topk(0.001)", 40}});
  expect_stages("topk(0.001)+warmup(7)+dgc(0.9,warmup=10)", {{"none", 0},
                                                             {"topk(0.25)", 7},
                                                             {"topk(0.0625)", 17},
                                                             {"topk(0.015625)", 27},
                                                             {"topk(0.004)", 37},
                                                             {"topk(0.001)", 47}});
  expect_stages("topk(density=0.002)|q4+dgc(0.9,nesterov=yes,warmup=1)", {{"topk(0.25)|q4", 0},
                                                                          {"topk(0.0625)|q4", 1},
                                                                          {"topk(0.015625)|q4", 2},
                                                                          {"topk(0.004)|q4", 3},
                                                                          {"topk(0.002)|q4", 4}});
  expect_stages("topk(0.001)+dgc(0.9,warmup=0)", {{"topk(0.001)", 0}});
}

std::string complaint(const std::string& text) {
  try {
    (void)parse_scheme(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument) << text;
    return error.what();
  }
  ADD_FAILURE() << text << " was accepted";
  return {};
}

TEST(Scheme, WrongTextIsRefusedByItsPart) {
  EXPECT_THAT(complaint(""), HasSubstr("no valid name"));
  EXPECT_THAT(complaint("q9"), HasSubstr("q9"));
  EXPECT_THAT(complaint("ef"), HasSubstr("ef")) << "the compressor comes first";
  EXPECT_THAT(complaint("q4+"), HasSubstr("scheme part \"\""));
  EXPECT_THAT(complaint("q4+ef+ef21"), HasSubstr("names two rules, ef and ef21"));
  EXPECT_THAT(complaint("q4+bogus(3)"), HasSubstr("unknown feedback rule \"bogus\""));
  EXPECT_THAT(complaint("q4+warmup(3)+warmup(5)"), HasSubstr("warmup is given twice"));
  EXPECT_THAT(complaint("q4+warmup"), HasSubstr("how many steps? warmup(steps=N)"));
  EXPECT_THAT(complaint("q4+warmup(0)"), HasSubstr("option steps is 0"));
  EXPECT_THAT(complaint("q4+warmup(-3)"), HasSubstr("option steps is -3"));
  EXPECT_THAT(complaint("q4+warmup(1.5)"), HasSubstr("option steps is 1.5"));
  EXPECT_THAT(complaint("q4+warmup(5,dense=yes)"), HasSubstr("unknown option dense"));
  EXPECT_THAT(complaint("q4+every"), HasSubstr("every(steps=N)"));
  EXPECT_THAT(complaint("q4+reset(0)"), HasSubstr("option steps is 0"));
  EXPECT_THAT(complaint("q4+decay(1.5)"), HasSubstr("option factor is 1.5"));
  EXPECT_THAT(complaint("q4+decay(rate=0.5)"), HasSubstr("unknown option rate"));
  EXPECT_THAT(complaint("q4+ramp(steps=5)"), HasSubstr("a ramp names the compressors that come first"));
  EXPECT_THAT(complaint("q4+ramp(q8)"), HasSubstr("how many steps? ramp(steps=N)"));
  EXPECT_THAT(complaint("q4+ramp(q99,steps=5)"), HasSubstr("q99"));
  EXPECT_THAT(complaint("q4+ramp(ef,steps=5)"), HasSubstr("ef"));
  EXPECT_THAT(complaint("q4+dgc(0.9,warmup=5)"),
              HasSubstr("a warmup ramps a density, and \"q4\" does not begin with one"));
  EXPECT_THAT(complaint("topk+dgc(0.9,warmup=5)"), HasSubstr("does not begin with one"));
  EXPECT_THAT(complaint("threshold(0.5)+dgc(0.9,warmup=5)"), HasSubstr("does not begin with one"));
  EXPECT_THAT(complaint("topk(0.1)+dgc(0.9,warmup=5)+ramp(q8,steps=5)"), HasSubstr("its warmup is a ramp"));
}

}  // namespace
}  // namespace gradwire::testing
