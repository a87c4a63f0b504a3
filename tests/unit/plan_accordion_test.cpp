// Picks by how fast norms change, alone and as references of another policy.
#include <gmock/gmock.h>

#include "unit/plan_support.hpp"

#include "gradwire/error.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;
using Specs = std::vector<std::string>;

TableLayer layer(const std::string& name, double norm, double previous_norm) {
  TableLayer made{name, 1000, 1, {{"q2", 250, 4}, {"q4", 500, 1}, {"q8", 1000, 0.25}}};
  made.norm = norm;
  made.previous_norm = previous_norm;
  return made;
}

Table table() {
  return {{layer("grows", 1.5, 1),
           layer("falls", 0.5, 1),
           layer("stays", 1.4375, 1),
           layer("new", 1, 0),
           layer("gone", 0, 1),
           {"bias", 10, 0, {{"none", 40, 0}}}}};
}

Specs specs_of(const std::string& policy, const Table& of = table()) {
  Specs specs;
  for (const PlanLayer& each : make_policy(policy).plan(of).layers) specs.push_back(each.spec);
  return specs;
}

std::string refusal(const std::string& policy, const Table& of = table()) {
  try {
    (void)make_policy(policy).plan(of);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument);
    return error.what();
  }
  return "accepted";
}

TEST(Accordion, CriticalLayersAreCompressedLess) {
  EXPECT_EQ(specs_of("accordion(low=q2,high=q8)"), (Specs{"q8", "q8", "q2", "q8", "q8", "none"}));
  EXPECT_EQ(specs_of("accordion(low=q2,high=q8,eta=0.4375)"), (Specs{"q8", "q8", "q8", "q8", "q8", "none"}));
  EXPECT_EQ(specs_of("accordion(low=q4,high=q8,eta=0.51)"), (Specs{"q4", "q4", "q4", "q8", "q8", "none"}));
  const Plan plan = make_policy("accordion(low=q2,high=q8)").plan(table());
  EXPECT_EQ(plan.limit, PlanLimit::none);
  EXPECT_EQ(plan.policy, "accordion(low=q2,high=q8)");
}

TEST(Accordion, PicksAreTheReferencesOfThePolicyThatFollows) {
  const std::string picks = "accordion(low=q2,high=q8";
  EXPECT_EQ(specs_of(picks + ",policy=uniform)"), specs_of(picks + ")"));
  EXPECT_EQ(specs_of(picks + ",policy=fixed(bias=none))"), specs_of(picks + ")"));
  Table picked = table();
  for (const std::size_t l : std::vector<std::size_t>{0, 1, 3, 4}) picked.layers[l].reference = 2;
  picked.layers[2].reference = 0;
  for (const char* const policy :
       {"lgreco", "lgreco(alpha=1.5,bins=500)", "budget(error=2)", "budget(ratio=7)", "accordion(low=q2,high=q4)"}) {
    Plan after = make_policy(fmt::format("{},policy={})", picks, policy)).plan(table());
    Plan alone = make_policy(policy).plan(picked);
    EXPECT_EQ(after.policy, fmt::format("{},policy={})", picks, policy));
    after.policy = alone.policy;
    after.solver_ms = alone.solver_ms;
    EXPECT_EQ(to_json(after), to_json(alone));
  }
  // not what the policy makes of the table's own references
  EXPECT_NE(specs_of(picks + ",eta=0.4,policy=lgreco)"), specs_of("lgreco"));
}

TEST(Accordion, WhatIsMissingIsNamed) {
  Table without = table();
  for (TableLayer& each : without.layers) each.norm = 0;
  EXPECT_THAT(refusal("accordion(low=q2,high=q8)", without), HasSubstr("no layer has a norm"));
  EXPECT_THAT(refusal("accordion(low=q2,high=q6)"),
              HasSubstr("layer \"grows\" has the candidate \"q2\", but not \"q6\""));
  EXPECT_THAT(refusal("accordion(low=q1,high=q6)"), HasSubstr("no layer has the candidates \"q1\" and \"q6\""));
  EXPECT_THAT(refusal("accordion(low=q2)"), HasSubstr("which two? accordion(low=SPEC,high=SPEC)"));
  EXPECT_THAT(refusal("accordion(low=q2,high=q4,eta=-1)"), HasSubstr("option eta is -1"));
  EXPECT_THAT(refusal("accordion(low=q2,high=q4,policy=lgreko)"), HasSubstr("unknown policy \"lgreko\""));
  EXPECT_THAT(refusal("accordion(low=q2,high=q4,policy=lgreco(alfa=1))"), HasSubstr("unknown option alfa"));
  std::string deep = "uniform";
  for (int i = 0; i < 20; ++i) deep = "accordion(low=q2,high=q4,policy=" + deep + ")";
  EXPECT_THAT(refusal(deep), HasSubstr("parentheses nest 20 deep; accepted: up to 16"));
}

}  // namespace
}  // namespace gradwire::testing
