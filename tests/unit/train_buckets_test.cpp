// What becomes of registered parameters: schemes and buckets.
#include <gmock/gmock.h>

#include "train/buckets.hpp"

#include "gradwire/error.hpp"

namespace gradwire::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ParamInfo param(std::uint32_t id, std::vector<std::size_t> shape, const std::string& compressor = {},
                const std::string& rule = {}) {
  return {ParamId{id}, "p" + std::to_string(id), std::move(shape), DType::f32, compressor, rule};
}

TEST(PlanSchemes, SmallAndOneDimensionalParametersGoDense) {
  const std::vector<ParamInfo> params{param(0, {64, 64}), param(1, {4096}), param(2, {31, 33}), param(3, {32, 32}),
                                      param(4, {})};
  const std::vector<ParamScheme> schemes = plan_schemes(params, {});
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

TEST(PlanSchemes, OneThatChoosesItsCompressorGetsIt) {
  const std::vector<ParamInfo> params{param(0, {10}, "q8"), param(1, {64, 64}, "none"), param(2, {64, 64}, {}, "none")};
  const std::vector<ParamScheme> schemes = plan_schemes(params, {});
  EXPECT_FALSE(schemes[0].dense());
  EXPECT_THAT(schemes[0].compressor, HasSubstr("bits=8"));
  EXPECT_TRUE(schemes[1].dense()) << "nothing to compress";
  EXPECT_FALSE(schemes[2].dense());
  EXPECT_EQ(schemes[2].rule, "none");
  HookOptions ring;
  ring.algorithm = "ring";
  EXPECT_FALSE(plan_schemes(params, ring)[1].dense()) << "asked for by name";
}

TEST(PlanSchemes, FamiliesGoByWhatACompressorCanDo) {
  const std::vector<ParamInfo> params{
      param(0, {64, 64}, "q4"),           param(1, {64, 64}, "topk(0.1)"),       param(2, {64, 64}, "thc"),
      param(3, {64, 64}, "randomk(0.1)"), param(4, {64, 64}, "randomk(0.1)|q4"), param(5, {64, 64}, "powersgd")};
  std::vector<Family> families;
  for (const ParamScheme& scheme : plan_schemes(params, {})) families.push_back(scheme.family);
  EXPECT_THAT(families, ElementsAre(Family::frames, Family::sparse, Family::integer, Family::integer, Family::sparse,
                                    Family::low_rank));
}

TEST(PlanSchemes, NamesTheParameterThatIsWrong) {
  const auto complaint = [](const std::vector<ParamInfo>& params) -> std::string {
    try {
      (void)plan_schemes(params, {});
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
  EXPECT_THAT(complaint({param(7, {3}, {}, "bogus")}), HasSubstr("parameter 'p7': unknown feedback rule 'bogus'"));
  std::vector<ParamInfo> twins{param(7, {1}), param(7, {2})};
  twins[1].name = "twin";
  EXPECT_THAT(complaint(twins), HasSubstr("'twin' has the id 7 of another one"));
}

TEST(PlanSchemes, WrongOptionsAreRefusedWhereAllIsDense) {
  HookOptions rule;
  rule.rule = "bogus";
  EXPECT_THROW((void)plan_schemes(std::vector<ParamInfo>{param(0, {3})}, rule), Error);
  HookOptions algorithm;
  algorithm.algorithm = "bogus";
  EXPECT_THROW((void)plan_schemes(std::vector<ParamInfo>{param(0, {3})}, algorithm), Error);
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

TEST(PlanBuckets, ALargeParameterIsABucket) {
  const std::vector<BucketPlan> plans = plan_buckets(std::vector<ParamScheme>{scheme(1), scheme(5000), scheme(1)}, 400);
  ASSERT_EQ(plans.size(), 2u);
  EXPECT_THAT(plans[0].params, ElementsAre(2, 1)) << "closed once it is full";
  EXPECT_THAT(plans[1].params, ElementsAre(0));
}

}  // namespace
}  // namespace gradwire::testing
