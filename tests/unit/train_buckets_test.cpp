// What becomes of registered parameters: schemes and buckets.
#include <gmock/gmock.h>

#include "train/buckets.hpp"

#include "gradwire/error.hpp"

namespace gradwire::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Step 0 of what the parameters' plans say.
std::vector<ParamScheme> first_schemes(const std::vector<ParamInfo>& params, const HookOptions& options) {
  std::vector<ParamScheme> schemes;
  const std::vector<ParamPlan> plans = plan_params(params, options);
  for (std::size_t i = 0; i < params.size(); ++i) {
    const bool dense = plans[i].schedule.warms_up(0);
    schemes.push_back(plans[i].scheme(params[i], 0, dense));
  }
  return schemes;
}

ParamInfo param(std::uint32_t id, std::vector<std::size_t> shape, const std::string& compressor = {},
                const std::string& rule = {}) {
  return {ParamId{id}, "p" + std::to_string(id), std::move(shape), DType::f32, compressor, rule};
}

TEST(PlanParams, SmallAndOneDimensionalParametersGoDense) {
  const std::vector<ParamInfo> params{param(0, {64, 64}), param(1, {4096}), param(2, {31, 33}), param(3, {32, 32}),
                                      param(4, {})};
  const std::vector<ParamScheme> schemes = first_schemes(params, {});
  EXPECT_FALSE(schemes[0].dense());
  EXPECT_EQ(schemes[0].compressor, "quantize(bits=4,bucket=512,norm=linf,round=nearest)");
  EXPECT_EQ(schemes[0].rule, "ef");
  EXPECT_EQ(schemes[0].count, 4096u);
  EXPECT_TRUE(schemes[1].dense()) << "one dimension";
  EXPECT_EQ(schemes[1].compressor, "none");
  EXPECT_EQ(schemes[1].rule, "none");
  EXPECT_TRUE(schemes[2].dense()) << "1023 elements";
  EXPECT_FALSE(schemes[3].dense()) << "1024 elements";
  EXPECT_TRUE(schemes[4].dense()) << "a scalar";
  EXPECT_EQ(schemes[4].count, 1u);
}

TEST(PlanParams, OneThatChoosesItsCompressorGetsIt) {
  const std::vector<ParamInfo> params{param(0, {10}, "q8"), param(1, {64, 64}, "none"), param(2, {64, 64}, {}, "none")};
  const std::vector<ParamScheme> schemes = first_schemes(params, {});
  EXPECT_FALSE(schemes[0].dense());
  EXPECT_THAT(schemes[0].compressor, HasSubstr("bits=8"));
  EXPECT_TRUE(schemes[1].dense()) << "nothing to compress";
  EXPECT_FALSE(schemes[2].dense());
  EXPECT_EQ(schemes[2].rule, "none");
  HookOptions ring;
  ring.algorithm = "ring";
  EXPECT_FALSE(first_schemes(params, ring)[1].dense()) << "asked for by name";
}

TEST(PlanParams, FamiliesGoByWhatACompressorCanDo) {
  const std::vector<ParamInfo> params{
      param(0, {64, 64}, "q4"),           param(1, {64, 64}, "topk(0.1)"),       param(2, {64, 64}, "thc"),
      param(3, {64, 64}, "randomk(0.1)"), param(4, {64, 64}, "randomk(0.1)|q4"), param(5, {64, 64}, "powersgd")};
  std::vector<Family> families;
  for (const ParamScheme& scheme : first_schemes(params, {})) families.push_back(scheme.family);
  EXPECT_THAT(families, ElementsAre(Family::frames, Family::sparse, Family::integer, Family::integer, Family::sparse,
                                    Family::low_rank));
}

TEST(PlanParams, NamesTheParameterThatIsWrong) {
  const auto complaint = [](const std::vector<ParamInfo>& params) -> std::string {
    try {
      (void)plan_params(params, {});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::invalid_argument);
      return error.what();
    }
    return "none";
  };
  EXPECT_THAT(complaint({}), HasSubstr("at least one parameter"));
  EXPECT_THAT(complaint({param(7, {3, 0})}), HasSubstr("'p7' has an empty shape [3x0]"));
  EXPECT_THAT(complaint({param(7, {std::size_t{1} << 62, 8})}), HasSubstr("'p7' is too large"));
  EXPECT_THAT(complaint({param(7, {64, 64}, "q9")}), HasSubstr("parameter 'p7': "));
  EXPECT_THAT(complaint({param(7, {3}, {}, "bogus")}), HasSubstr("parameter 'p7': unknown feedback rule \"bogus\""));
  std::vector<ParamInfo> twins{param(7, {1}), param(7, {2})};
  twins[1].name = "twin";
  EXPECT_THAT(complaint(twins), HasSubstr("'twin' has the id 7 of another one"));
}

TEST(PlanParams, WrongOptionsAreRefusedWhereAllIsDense) {
  HookOptions rule;
  rule.rule = "bogus";
  EXPECT_THROW((void)plan_params(std::vector<ParamInfo>{param(0, {3})}, rule), Error);
  HookOptions algorithm;
  algorithm.algorithm = "bogus";
  EXPECT_THROW((void)plan_params(std::vector<ParamInfo>{param(0, {3})}, algorithm), Error);
}

TEST(PlanParams, ARuleComesFromTheSchemeTheParameterOrTheHook) {
  HookOptions options;
  options.compressor = "topk(0.01)+dgc(0.9)";
  options.rule = "econtrol(0.01)";
  const std::vector<ParamInfo> params{param(0, {64, 64}), param(1, {64, 64}, {}, "ef21"), param(2, {64, 64}, "q4"),
                                      param(3, {64, 64}, "q4+diana"), param(4, {64, 64}, "q4", "ef(bf16)")};
  const std::vector<ParamPlan> plans = plan_params(params, options);
  EXPECT_EQ(plans[0].rule, "dgc(0.9)") << "the hook's scheme goes before its `rule`";
  EXPECT_EQ(plans[1].rule, "ef21") << "what the parameter says goes before that";
  EXPECT_EQ(plans[2].rule, "econtrol(0.01)");
  EXPECT_EQ(plans[3].rule, "diana");
  EXPECT_EQ(plans[4].rule, "ef(bf16)");
}

/// A rule's own schedule counts wherever the rule is named, and goes with it.
TEST(PlanParams, ARuleBringsItsSchedule) {
  const auto stages = [](const char* compressor, const char* rule, const char* own_rule, const char* own = "") {
    HookOptions options;
    options.compressor = compressor;
    options.rule = rule;
    return plan_params(std::vector<ParamInfo>{param(0, {64, 64}, own, own_rule)}, options)[0].schedule.stages.size();
  };
  EXPECT_EQ(stages("topk(0.001)+dgc(0.9,warmup=5)", "ef", ""), 5u);
  EXPECT_EQ(stages("topk(0.001)", "dgc(0.9,warmup=5)", ""), 5u);
  EXPECT_EQ(stages("topk(0.001)", "ef", "dgc(0.9,warmup=5)"), 5u);
  EXPECT_EQ(stages("topk(0.001)+dgc(0.9)", "ef", "dgc(0.9,warmup=5)"), 5u);
  EXPECT_EQ(stages("topk(0.001)+dgc(0.9,warmup=5)", "ef", "ef21"), 1u) << "the hook's rule is not this parameter's";
  EXPECT_EQ(stages("topk(0.001)", "dgc(0.9,warmup=5)", "", "none"), 1u);
  EXPECT_THROW((void)stages("q4", "dgc(0.9,warmup=5)", ""), Error);
  EXPECT_THROW((void)stages("q4", "warmup(5)", ""), Error) << "a term is no rule";
  EXPECT_THROW((void)stages("q4", "ef", "warmup(5)"), Error);
}

/// What a rule does to a gradient that is never compressed stays: momentum. Feedback does not.
TEST(PlanParams, OfARuleOnlyMomentumIsLeftWhereNothingIsLost) {
  HookOptions options;
  for (const char* rule : {"ef", "ef21", "econtrol(0.01)", "diana(0.1)", "ef(bf16)"}) {
    options.rule = rule;
    EXPECT_EQ(plan_params(std::vector<ParamInfo>{param(0, {10})}, options)[0].rule, "none") << rule;
  }
  for (const char* rule : {"dgc(0.9)", "ef21_sgdm(0.1)"}) {
    options.rule = rule;
    const ParamPlan plan = plan_params(std::vector<ParamInfo>{param(0, {10})}, options)[0];
    EXPECT_TRUE(plan.always_dense);
    EXPECT_EQ(plan.rule, rule);
  }
}

TEST(PlanParams, ASchemeFollowsItsSchedule) {
  HookOptions options;
  options.compressor = "q4+ramp(q8,f16,steps=10)+warmup(5)+every(100)";
  const ParamInfo matrix = param(0, {64, 64});
  const ParamPlan plan = plan_params(std::vector<ParamInfo>{matrix}, options)[0];
  const auto compressor = [&](std::uint64_t step) {
    return plan.scheme(matrix, step, plan.schedule.warms_up(step) || plan.schedule.is_nth_step(step)).compressor;
  };
  EXPECT_EQ(compressor(0), "none");
  EXPECT_EQ(compressor(4), "none");
  EXPECT_THAT(compressor(5), HasSubstr("bits=8"));
  EXPECT_THAT(compressor(14), HasSubstr("bits=8"));
  EXPECT_EQ(compressor(15), "f16");
  EXPECT_THAT(compressor(25), HasSubstr("bits=4"));
  EXPECT_EQ(compressor(99), "none");
  EXPECT_THAT(compressor(100), HasSubstr("bits=4"));
  EXPECT_THAT(plan.text(), HasSubstr("from step 15 f16"));
  EXPECT_THAT(plan.text(), HasSubstr("5 dense steps first"));
  EXPECT_THAT(plan.text(), HasSubstr("dense every 100 steps"));
}

ParamScheme scheme(std::size_t count, bool dense = false) {
  return {"q4", "ef", dense ? Family::dense : Family::frames, {}, count};
}

TEST(PlanBuckets, FillsBucketsInBackwardOrder) {
  const std::vector<ParamScheme> schemes{scheme(100), scheme(100), scheme(100), scheme(100), scheme(100)};
  const std::vector<BucketPlan> plans = plan_buckets(schemes, 800);
  ASSERT_EQ(plans.size(), 3u);
  EXPECT_THAT(plans[0].params, ElementsAre(4, 3));
  EXPECT_THAT(plans[1].params, ElementsAre(2, 1));
  EXPECT_THAT(plans[2].params, ElementsAre(0)) << "what is left";
}

/// A bucket goes when the last of its gradients is there: buckets are in the order of that.
TEST(PlanBuckets, DenseOnesHaveBucketsOfTheirOwn) {
  const std::vector<ParamScheme> schemes{scheme(1000), scheme(10, true), scheme(1000), scheme(10, true)};
  const std::vector<BucketPlan> plans = plan_buckets(schemes, 4000);
  ASSERT_EQ(plans.size(), 3u);
  EXPECT_THAT(plans[0].params, ElementsAre(2));
  EXPECT_THAT(plans[1].params, ElementsAre(3, 1));
  EXPECT_TRUE(plans[1].family == Family::dense);
  EXPECT_THAT(plans[2].params, ElementsAre(0));
  EXPECT_EQ(plans[2].family, Family::frames);
}

TEST(PlanBuckets, FrozenParametersAreInNone) {
  const std::vector<ParamScheme> schemes{scheme(100), scheme(0), scheme(100), scheme(0, true)};
  const std::vector<BucketPlan> plans = plan_buckets(schemes, 4000);
  ASSERT_EQ(plans.size(), 1u);
  EXPECT_THAT(plans[0].params, ElementsAre(2, 0));
  EXPECT_TRUE(plan_buckets(std::vector<ParamScheme>{scheme(0)}, 4000).empty());
}

TEST(PlanBuckets, ALargeParameterIsABucket) {
  const std::vector<BucketPlan> plans = plan_buckets(std::vector<ParamScheme>{scheme(1), scheme(5000), scheme(1)}, 400);
  ASSERT_EQ(plans.size(), 2u);
  EXPECT_THAT(plans[0].params, ElementsAre(2, 1)) << "closed once it is full";
  EXPECT_THAT(plans[1].params, ElementsAre(0));
}

}  // namespace
}  // namespace gradwire::testing
