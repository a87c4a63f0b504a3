// What holds a plan back, what it may not cost, and what a step says of itself when plans change.
#include "ranks/hook_plan.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire::test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class HookPlanGuard : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, HookPlanGuard, ::testing::ValuesIn(worlds()), world_name);

TEST_P(HookPlanGuard, KnowsWhatEachRuleLoses) {
  run([](Communicator& comm) {
    // ef21 keeps no residual, and still loses what q2 loses; econtrol owes far more than a step sends, and is healthy.
    for (const auto& [rule, most, guarded] : {std::tuple{"ef21", 0.25, true},
                                              {"ef", 0.25, true},
                                              {"ef", 1.0, false},
                                              {"econtrol(0.001)", 1.0, false},
                                              {"none", 0.25, false}}) {
      SCOPED_TRACE(rule);
      HookOptions options = planning_options(comm, "uniform");
      options.compressor = "q2";
      options.rule = rule;
      options.planning.watch = 3;
      options.planning.max_layer_error = most;
      options.planning.max_residual_ratio = 0;
      Training training(comm, options);
      training.steps(0, 30);
      EXPECT_EQ(
          !outcomes(*training.hook).empty() && std::ranges::count(outcomes(*training.hook), PlanOutcome::guarded) > 0,
          guarded);
      expect_same_on_all_ranks(comm, *training.hook);
    }
  });
}

TEST_P(HookPlanGuard, ALayerThatOwesTooMuchIsMoved) {
  run([](Communicator& comm) {
    HookOptions options = planning_options(comm, "uniform");
    options.planning.watch = 3;
    options.planning.max_residual_ratio = 0.01;
    Training training(comm, options);
    training.steps(0, 6);  // watched in 4, decided in 5, before there is a table: sent dense
    ASSERT_THAT(outcomes(*training.hook),
                ElementsAre(PlanOutcome::guarded, PlanOutcome::guarded, PlanOutcome::guarded));
    EXPECT_THAT(training.hook->planning().events[0].detail, HasSubstr("layer0.weight owes"));
    EXPECT_EQ(spec_of(training.hook->plan(), kLayers[0]), "none");
  });
}

TEST_P(HookPlanGuard, APlanIsNotBlamedForWhatTheOneBeforeLost) {
  run([](Communicator& comm) {
    // Watched are steps 4, 7, ...; what step 4 loses, by topk, is summed in step 5, the first of q8.
    HookOptions options = planning_options(comm, "fixed(q8)");
    options.compressor = "topk(0.01)";
    options.planning.candidates = {"q3", "q8"};
    options.planning.watch = 3;
    options.planning.max_layer_error = 0.5;
    ToyModel model(comm);
    GradientHook hook(comm, model.params, options);
    unsigned number = 0;
    const auto steps_to = [&](unsigned end) {
      for (; number < end; ++number) wait(model.step(hook, number));
    };
    const auto guarded = [&] { return std::ranges::count(outcomes(hook), PlanOutcome::guarded); };
    steps_to(5);
    hook.set_plan(same_for_all("q8"));
    steps_to(12);
    EXPECT_EQ(guarded(), 0);
    EXPECT_EQ(spec_of(hook.plan(), kLayers[0]), "q8");
    // And topk itself, once it is watched for what it did.
    hook.set_plan(same_for_all("topk(0.01)"));
    steps_to(16);
    EXPECT_GT(guarded(), 0);
    expect_same_on_all_ranks(comm, hook);
  });
}

TEST_P(HookPlanGuard, WhatWasRuledOutStaysSoWhenAWorseOneIsToo) {
  run([](Communicator& comm) {
    HookOptions options = planning_options(comm, "uniform");
    options.compressor = "q3";
    options.planning.watch = 5;  // steps 6, 11, 16, ...
    options.planning.max_layer_error = 0.05;
    options.planning.max_residual_ratio = 0;
    ToyModel model(comm);
    GradientHook hook(comm, model.params, options);
    unsigned number = 0;
    for (; number < 12; ++number) wait(model.step(hook, number));
    hook.set_plan(same_for_all("q2"));
    for (; number < 20; ++number) wait(model.step(hook, number));
    std::string guarded;
    for (const PlanEvent& event : hook.planning().events)
      if (event.outcome == PlanOutcome::guarded) guarded += event.detail + "\n";
    EXPECT_THAT(guarded, HasSubstr(": q3 -> "));
    EXPECT_THAT(guarded, HasSubstr(": q2 -> "));
    // The policy says q3 for all, in the window that ended in step 17 too.
    for (const PlanLayer& layer : hook.plan().layers) EXPECT_NE(layer.spec, "q3") << layer.name;
    expect_same_on_all_ranks(comm, hook);
  });
}

TEST_P(HookPlanGuard, ReportsAreOfStepsThatAreDone) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    HookOptions options = toy_options(comm, "q4", "ef");
    options.bucket_bytes = 4096;
    GradientHook hook(comm, model.params, options);
    wait(model.step(hook, 0));
    hook.set_plan(same_for_all("q2"));
    EXPECT_EQ(hook.report().step, 1u);
    for (std::size_t p = model.weights.size(); p-- > 0;) {
      model.compute_gradient(p);
      hook.ready(model.id(p), model.gradient(p));
      EXPECT_THAT(outcome_of([&] { (void)hook.report(); }).message, HasSubstr("under way"));
    }
    wait(hook.finish_step());
    EXPECT_EQ(hook.report().step, 2u);
  });
}

TEST_P(HookPlanGuard, LayersThatPlansCannotNameKeepTheirSetting) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    model.params[0].name.clear();
    HookOptions options = toy_options(comm, "q4", "ef");
    {
      GradientHook hook(comm, model.params, options);
      EXPECT_THAT(outcome_of([&] { hook.set_plan(same_for_all("q2")); }).message, HasSubstr("layer0.weight"));
      hook.set_plan(plan_of({{kLayers[1], "q2"}, {kLayers[2], "q2"}}));
      wait(model.step(hook, 0));
      EXPECT_EQ(hook.report().params[0].compressor, make_compressor("q4").spec());
      EXPECT_EQ(hook.report().params[2].compressor, make_compressor("q2").spec());
    }
    options.planning.policy = "uniform";
    const Outcome unnamed = outcome_of([&] { GradientHook(comm, model.params, options); });
    EXPECT_EQ(unnamed.code, Errc::invalid_argument);
    EXPECT_THAT(unnamed.message, HasSubstr("has no name"));
  });
}

TEST_P(HookPlanGuard, NothingIsLostUnderAPolicyAndItsGuards) {
  run([](Communicator& comm) {
    HookOptions options = planning_options(comm, "budget(ratio=20)");
    options.planning.watch = 5;
    options.planning.max_layer_error = 0.7;
    ToyModel model(comm);
    GradientHook hook(comm, model.params, options);
    Ledger ledger(model);
    for (unsigned number = 0; number < 40; ++number) ledger.step(hook, number);
    EXPECT_THAT(outcomes(hook), Contains(PlanOutcome::adopted));
    EXPECT_THAT(outcomes(hook), Contains(PlanOutcome::guarded));
    hook.set_plan(same_for_all("none"));
    ledger.step(hook, 40);
    for (const double norm : residual_norms(hook)) EXPECT_EQ(norm, 0);
    ledger.expect_settled();
    expect_equal_on_all_ranks(comm, model.weights, "weights");
  });
}

TEST_P(HookPlanGuard, NormsThatDoNotAddUpMakeNoPlan) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, planning_options(comm, "budget(ratio=12)"));
    for (unsigned step = 0; step < 12; ++step) {
      for (std::size_t p = model.weights.size(); p-- > 0;) {
        std::fill(model.gradients[p].begin(), model.gradients[p].end(), 1e-20F);
        hook.ready(model.id(p), model.gradient(p));
      }
      wait(hook.finish_step());
    }
    ASSERT_THAT(outcomes(hook), ElementsAre(PlanOutcome::incomplete));
    EXPECT_THAT(hook.planning().events[0].detail, HasSubstr("beyond 1e-15"));
    EXPECT_TRUE(hook.table().layers.empty());
  });
}

TEST_P(HookPlanGuard, AStepReportsWhatItRanAndAllThatItSent) {
  run([](Communicator& comm) {
    HookOptions options = planning_options(comm, "budget(ratio=12)");
    options.planning.watch = 0;
    Training training(comm, options);
    training.steps(0, 9);
    const std::uint64_t usual = training.hook->report().wire_bytes;
    training.step(9);  // ranks add up what they measured
    const std::uint64_t with_sums = training.hook->report().wire_bytes;
    if (comm.size() > 1) {
      EXPECT_GT(with_sums, usual);
      EXPECT_LT(with_sums, usual + 4000);
    }
    training.steps(10, 12);  // a plan holds from 12 on
    ASSERT_THAT(outcomes(*training.hook), ElementsAre(PlanOutcome::adopted));
    const StepReport report = training.hook->report();
    for (const std::size_t p : {0u, 2u, 4u}) EXPECT_EQ(report.params[p].compressor, make_compressor("q4").spec());
    std::uint64_t sent = 0;
    for (const BucketReport& bucket : report.buckets) {
      EXPECT_GT(bucket.done_us, bucket.launch_us);
      sent += bucket.wire_bytes;
    }
    EXPECT_LE(sent, report.wire_bytes);
    if (comm.size() > 1) {
      EXPECT_GT(sent, usual / 2);
    }
  });
}

TEST_P(HookPlanGuard, APlanThatOneRankDoesNotSetIsAnErrorAtTheDeadline) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    HookOptions options = toy_options(comm, "q4", "ef");
    options.timeout = std::chrono::milliseconds(300);
    ToyModel model(comm);
    GradientHook hook(comm, model.params, options);
    if (comm.rank() == comm.size() - 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(900));
      return;
    }
    const Outcome outcome = outcome_of([&] { hook.set_plan(same_for_all("q2")); });
    EXPECT_THAT(outcome.code, ::testing::AnyOf(Errc::timeout, Errc::aborted)) << outcome.message;
  });
}

}  // namespace
}  // namespace gradwire::test
