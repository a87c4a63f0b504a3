// Plans in training: by hand and by a policy, what holds them back, and what stays when they change.
#include <set>

#include "ranks/hook_plan.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;

class HookPlan : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, HookPlan, ::testing::ValuesIn(worlds()), world_name);

TEST_P(HookPlan, NothingIsLostWhenPlansChange) {
  run([](Communicator& comm) {
    for (const char* const own : {"topk(0.05)", "powersgd(2)", "q2"}) {
      ToyModel model(comm);
      GradientHook hook(comm, model.params, toy_options(comm, own, "ef"));
      Ledger ledger(model);
      unsigned number = 0;
      for (const char* const spec : {"", "q3", "powersgd(4)", "topk(0.02)|q4", "powersgd(1)", "sign", "none"}) {
        if (*spec != '\0') hook.set_plan(same_for_all(spec));
        for (int i = 0; i < 3; ++i) ledger.step(hook, number++);
      }
      // The last steps were sent dense, through the rule: nothing is owed any more.
      for (const double norm : residual_norms(hook)) EXPECT_EQ(norm, 0);
      ledger.expect_settled();
    }
  });
}

TEST_P(HookPlan, APlanByHandHoldsFromTheNextStep) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, toy_options(comm, "q4", "ef"));
    wait(model.step(hook, 0));
    hook.set_plan(plan_of({{"layer2.weight", "topk(0.1)"}, {"layer4.weight", "none"}}));
    wait(model.step(hook, 1));
    const StepReport report = hook.report();
    EXPECT_EQ(report.params[0].compressor, make_compressor("q4").spec());
    EXPECT_EQ(report.params[2].compressor, make_compressor("topk(0.1)").spec());
    EXPECT_EQ(report.params[4].compressor, "dense");
    EXPECT_EQ(report.params[4].residual_norm, 0);
    EXPECT_GT(report.params[2].residual_norm, 0);
    EXPECT_EQ(spec_of(hook.plan(), "layer4.weight"), "none");
    EXPECT_THAT(outcomes(hook), ::testing::ElementsAre(PlanOutcome::adopted));
    EXPECT_EQ(hook.planning().events[0].step, 1u);
  });
}

TEST_P(HookPlan, APlanThatCannotRunChangesNothing) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, toy_options(comm, "q4", "ef"));
    const auto refused = [&](const Plan& plan) { return outcome_of([&] { hook.set_plan(plan); }); };
    EXPECT_THAT(refused(plan_of({{"layer9.weight", "q2"}})).message, HasSubstr("'layer9.weight'"));
    EXPECT_THAT(refused(plan_of({{"layer1.weight", "q2"}})).message, HasSubstr("'layer1.weight'"));  // always dense
    EXPECT_EQ(refused(plan_of({{"layer0.weight", "q99"}})).code, Errc::invalid_argument);
    EXPECT_THAT(refused(Plan{}).message, HasSubstr("no layer"));
    EXPECT_THAT(refused(plan_of({{"layer0.weight", "q2"}, {"layer0.weight", "q3"}})).message, HasSubstr("twice"));
    Plan figures = same_for_all("q2");
    figures.layers[1].error = std::nan("");
    EXPECT_THAT(refused(figures).message, HasSubstr("(\"layer2.weight\"): error is nan"));
    figures.layers[1].error = 1;
    figures.limit = PlanLimit::bytes;
    figures.budget = -1;
    EXPECT_THAT(refused(figures).message, HasSubstr("\"budget\" is -1"));
    figures.budget = 0;
    figures.error = 2;
    EXPECT_THAT(refused(figures).message, HasSubstr("\"error\" is 2, but the layers sum to 1"));
    figures.error = 0;
    figures.layers[0].bytes = figures.layers[2].bytes = std::uint64_t{1} << 53;
    EXPECT_THAT(refused(figures).message, HasSubstr("bytes sum to more than"));
    if (comm.size() > 1) {
      const Outcome differs = refused(same_for_all(comm.rank() == 0 ? "q2" : "q3"));
      EXPECT_EQ(differs.code, Errc::rank_mismatch);
      EXPECT_THAT(differs.message, HasSubstr("layer0.weight"));
      Plan other = same_for_all("q2");
      other.layers[1].bytes = static_cast<std::uint64_t>(comm.rank());
      EXPECT_THAT(refused(other).message, HasSubstr("layer2.weight"));
    }
    EXPECT_EQ(spec_of(hook.plan(), "layer0.weight"), "q4");
    wait(model.step(hook, 0));
    expect_update_of_q4(model, 0);
    EXPECT_TRUE(hook.planning().events.empty());
  });
}

TEST_P(HookPlan, APolicysPlanIsAdoptedByAllRanksAtOneStep) {
  run([](Communicator& comm) {
    std::vector<std::string> plans;
    for (int again = 0; again < 2; ++again) {
      Training training(comm, planning_options(comm, "budget(ratio=12)"));
      training.steps(0, 12);
      ASSERT_THAT(outcomes(*training.hook), ::testing::ElementsAre(PlanOutcome::adopted));
      EXPECT_EQ(training.hook->planning().events[0].step, 12u);
      expect_same_on_all_ranks(comm, *training.hook);

      const Plan plan = training.hook->plan();
      const double dense = 4.0 * (64 * 40 + 50 * 70 + 128 * 32);
      EXPECT_LE(static_cast<double>(plan.bytes), dense / 12);
      EXPECT_GT(plan.squared_error, 0);
      EXPECT_EQ(plan.policy, "budget(ratio=12)");
      training.step(12);
      const StepReport report = training.hook->report();
      for (const std::size_t p : {0u, 2u, 4u}) {
        const std::string spec = spec_of(plan, report.params[p].name);
        EXPECT_EQ(report.params[p].compressor, spec == "none" ? "dense" : make_compressor(spec).spec());
      }
      Plan solved = make_policy("budget(ratio=12)").plan(training.hook->table());
      solved.solver_ms = solved.exposed_ms = 0;  // the same but for times
      plans.push_back(to_json(solved));
    }
    EXPECT_EQ(plans[0], plans[1]);
  });
}

TEST_P(HookPlan, TheTableIsOfWhatWasSent) {
  run([](Communicator& comm) {
    Training training(comm, planning_options(comm, "uniform"));
    training.steps(0, 10);
    const Table table = training.hook->table();
    ASSERT_EQ(table.layers.size(), kLayers.size());
    const TableLayer& layer = table.layers[1];
    EXPECT_EQ(layer.name, "layer2.weight");
    EXPECT_EQ(layer.count, 50u * 70u);
    EXPECT_EQ(layer.candidates[layer.reference].spec, "q4");
    std::set<std::string> specs;
    for (const Candidate& candidate : layer.candidates) {
      specs.insert(candidate.spec);
      if (candidate.spec == "none") {
        EXPECT_EQ(candidate.bytes, make_compressor("none").max_frame_size(layer.count, DType::f32));
        EXPECT_EQ(candidate.error, 0);
      } else {
        EXPECT_GT(candidate.error, 0) << candidate.spec;
        EXPECT_LT(candidate.error, layer.norm) << candidate.spec;
      }
      if (candidate.spec == "q8") {
        EXPECT_EQ(candidate.bytes, make_compressor("q8").max_frame_size(layer.count, DType::f32));
      }
    }
    EXPECT_EQ(specs.size(), 10u);
    // Gradients of the mean over ranks: a rank's own is 1/n of what its loss gave.
    const double own = std::sqrt(2 * 3500.0) / comm.size();
    EXPECT_GT(layer.norm, own / 4);
    EXPECT_LT(layer.norm, own * 2);
  });
}

TEST_P(HookPlan, ASecondPlanThatIsAsGoodDoesNotReplaceTheFirst) {
  run([](Communicator& comm) {
    HookOptions options = planning_options(comm, "budget(ratio=12)");
    options.planning.hysteresis = 0.999;
    Training training(comm, options);
    training.steps(0, 30);
    EXPECT_THAT(outcomes(*training.hook),
                ::testing::ElementsAre(PlanOutcome::adopted, PlanOutcome::kept, PlanOutcome::kept));
    expect_same_on_all_ranks(comm, *training.hook);
  });
}

TEST_P(HookPlan, NoPlanExceedsTheUsersLimit) {
  run([](Communicator& comm) {
    HookOptions options = planning_options(comm, "fixed(q2)");
    options.planning.max_error = 0.1;
    Training training(comm, options);
    training.steps(0, 12);
    ASSERT_THAT(outcomes(*training.hook), ::testing::ElementsAre(PlanOutcome::adopted));
    EXPECT_THAT(training.hook->planning().events[0].detail, HasSubstr("over the limit of 0.1"));
    double norms = 0;
    for (const TableLayer& layer : training.hook->table().layers) norms += layer.norm * layer.norm;
    EXPECT_LE(training.hook->plan().squared_error, 0.01 * norms);
    EXPECT_GT(training.hook->plan().squared_error, 0);
  });
}

TEST_P(HookPlan, ALayerBeyondItsBoundIsMovedAndStaysThere) {
  run([](Communicator& comm) {
    HookOptions options = planning_options(comm, "fixed(q2)");
    options.planning.watch = 5;
    options.planning.max_layer_error = 0.25;
    Training training(comm, options);
    training.steps(0, 12);  // q2 from step 12 on; its error is about 0.5
    ASSERT_EQ(spec_of(training.hook->plan(), kLayers[0]), "q2");
    training.steps(12, 18);  // watched in 16, decided in 17
    const std::vector<PlanEvent> events = training.hook->planning().events;
    ASSERT_EQ(events.size(), 4u);
    for (std::size_t i = 1; i < 4; ++i) {
      EXPECT_EQ(events[i].outcome, PlanOutcome::guarded);
      EXPECT_EQ(events[i].step, 18u);
      EXPECT_THAT(events[i].detail, HasSubstr(kLayers[i - 1] + " loses"));
    }
    const Plan guarded = training.hook->plan();
    for (const PlanLayer& layer : guarded.layers) {
      EXPECT_NE(layer.spec, "q2");
      EXPECT_GT(layer.bytes, 0u);
    }
    // The policy names what the guard has ruled out: it fails, and says so.
    training.steps(18, 21);
    EXPECT_EQ(outcomes(*training.hook).back(), PlanOutcome::failed);
    EXPECT_EQ(spec_of(training.hook->plan(), kLayers[0]), spec_of(guarded, kLayers[0]));
    expect_same_on_all_ranks(comm, *training.hook);
  });
}

TEST_P(HookPlan, GuardsMayWatchEveryStep) {
  run([](Communicator& comm) {
    HookOptions options = planning_options(comm, "fixed(q2)");
    options.planning.watch = 1;
    options.planning.max_layer_error = 0.25;
    Training training(comm, options);
    training.steps(0, 14);  // q2 in step 12, which is summed in 13
    std::size_t guarded = 0;
    for (const PlanEvent& event : training.hook->planning().events)
      if (event.outcome == PlanOutcome::guarded && event.step == 14) ++guarded;
    EXPECT_EQ(guarded, kLayers.size());
    expect_same_on_all_ranks(comm, *training.hook);
  });
}

TEST_P(HookPlan, APlanInTheMakingDoesNotUndoAGuard) {
  run([](Communicator& comm) {
    HookOptions options = planning_options(comm, "fixed(q2)");
    options.planning.watch = 16;
    options.planning.max_layer_error = 0.25;
    Training training(comm, options);
    // q2 from step 12; the table of step 17 allows it once more, the guards move all in step 18, plans are due in 19.
    training.steps(0, 20);
    EXPECT_THAT(outcomes(*training.hook),
                ::testing::UnorderedElementsAre(PlanOutcome::adopted, PlanOutcome::failed, PlanOutcome::guarded,
                                                PlanOutcome::guarded, PlanOutcome::guarded));
    for (const PlanLayer& layer : training.hook->plan().layers) EXPECT_NE(layer.spec, "q2");
    training.step(20);
    for (const std::size_t p : {0u, 2u, 4u})
      EXPECT_NE(training.hook->report().params[p].compressor, make_compressor("q2").spec());
    expect_same_on_all_ranks(comm, *training.hook);
  });
}

TEST_P(HookPlan, APolicyThatFailsLeavesTheOldPlan) {
  run([](Communicator& comm) {
    Training training(comm, planning_options(comm, "budget(bytes=1)"));
    training.steps(0, 14);
    ASSERT_THAT(outcomes(*training.hook), ::testing::ElementsAre(PlanOutcome::failed));
    EXPECT_THAT(training.hook->planning().events[0].detail, HasSubstr("no plan"));
    EXPECT_EQ(training.hook->report().params[0].compressor, make_compressor("q4").spec());
  });
}

TEST_P(HookPlan, AThreadThatMeasuresDoesNotPartTheRanks) {
  run([](Communicator& comm) {
    HookOptions options = planning_options(comm, "budget(ratio=12)");
    options.planning.share = 1;
    options.planning.lag = 1;
    Training training(comm, options);
    // As fast as steps can be: what is not measured or solved in time is left out, alike on all ranks. Then slower,
    // until a plan was.
    training.steps(0, 100);
    EXPECT_FALSE(training.hook->planning().events.empty());
    const auto adopted = [&] { return std::ranges::count(outcomes(*training.hook), PlanOutcome::adopted) > 0; };
    for (unsigned number = 100; number < 3000 && !adopted(); ++number) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      training.step(number);
    }
    EXPECT_TRUE(adopted());
    for (const PlanOutcome outcome : outcomes(*training.hook)) EXPECT_NE(outcome, PlanOutcome::failed);
    expect_same_on_all_ranks(comm, *training.hook);
    expect_equal_on_all_ranks(comm, training.model.weights, "weights");
  });
}

TEST_P(HookPlan, GradientsIn16BitsNonFiniteStepsAndFrozenLayersArePlannedRound) {
  run([](Communicator& comm) {
    HookOptions options = planning_options(comm, "budget(ratio=12)");
    Training training(comm, options, DType::bf16);
    training.steps(0, 5);
    training.step(5, comm.rank() == 0);  // to be measured, and dropped
    EXPECT_TRUE(training.hook->skipped());
    training.hook->set_frozen(training.model.id(4), true);
    const auto step = [&](unsigned number) {
      for (std::size_t p = training.model.weights.size(); p-- > 0;)
        if (p != 4) training.hook->ready(training.model.id(p), training.tensor(p));
      (void)number;
      wait(training.hook->finish_step());
    };
    for (unsigned number = 6; number < 22; ++number) step(number);
    const std::vector<PlanEvent> events = training.hook->planning().events;
    ASSERT_FALSE(events.empty());
    EXPECT_EQ(events[0].outcome, PlanOutcome::adopted) << events[0].detail;
    EXPECT_EQ(training.hook->table().layers.size(), 2u);
    expect_same_on_all_ranks(comm, *training.hook);
  });
}

}  // namespace
}  // namespace gradwire::test
