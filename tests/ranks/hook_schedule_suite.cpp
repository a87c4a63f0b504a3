// Schedules in training: which step is dense, which compressor it has, and what becomes of residuals.
#include "ranks/hook_suite.hpp"
#include "ranks/steady.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;

class HookSchedule : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, HookSchedule, ::testing::ValuesIn(worlds()), world_name);

/// After each step: bytes sent, what is owed of the first layer, and its compressor.
struct Steps {
  std::vector<std::uint64_t> bytes;
  std::vector<double> owed;
  std::vector<std::string> compressors;
  ParamValues weights;
};

Steps train(const Communicator& comm, const std::string& scheme, const std::string& rule, unsigned steps,
            float rate = 0.05F) {
  ToyModel model(comm);
  GradientHook hook(comm, model.params, toy_options(comm, scheme, rule));
  Steps made;
  for (unsigned step = 0; step < steps; ++step) {
    wait(model.step(hook, step));
    model.descend(rate);
    const StepReport report = hook.report();
    made.bytes.push_back(report.wire_bytes);
    made.owed.push_back(report.params[0].residual_norm);
    made.compressors.push_back(report.params[0].compressor);
  }
  made.weights = model.weights;
  expect_equal_on_all_ranks(comm, made.weights, scheme);
  return made;
}

TEST_P(HookSchedule, WarmupIsDenseTraining) {
  run([](Communicator& comm) {
    for (const char* rule :
         {"none", "ef", "ef(bf16)", "ef21", "ef21_sgdm(0.1)", "econtrol(0.01)", "dgc(0.9)", "diana(0.1)"}) {
      const Steps dense = train(comm, "none", rule, 6);
      for (const char* compressor : {"q2", "topk(0.05)", "powersgd(rank=2)"}) {
        const Steps warm = train(comm, fmt::format("{}+warmup(6)+{}", compressor, rule), "ef", 6);
        expect_near(warm.weights, dense.weights, 1e-5F, fmt::format("{} over {}", rule, compressor));
        EXPECT_EQ(warm.owed, std::vector<double>(6, 0.0)) << rule;
        EXPECT_EQ(warm.bytes, dense.bytes) << rule;
        EXPECT_EQ(warm.compressors, std::vector<std::string>(6, "dense"));
      }
    }
  });
}

TEST_P(HookSchedule, CompressionBeginsAfterWarmup) {
  run([](Communicator& comm) {
    for (const char* compressor : {"q4", "topk(0.05)", "powersgd(rank=2)"}) {
      const Steps made = train(comm, std::string(compressor) + "+warmup(3)", "ef", 6);
      for (unsigned step = 0; step < 6; ++step) {
        EXPECT_EQ(made.owed[step] > 0, step >= 3) << compressor << ", step " << step;
        EXPECT_EQ(made.compressors[step] == "dense", step < 3) << compressor << ", step " << step;
        if (comm.size() > 1 && step >= 3) {
          EXPECT_LT(made.bytes[step], made.bytes[0] / 2) << compressor << ", step " << step;
        }
      }
    }
  });
}

TEST_P(HookSchedule, ARampChangesTheBytesInTheRightStep) {
  run([](Communicator& comm) {
    const Steps made = train(comm, "q2+ramp(q8,q4,steps=3)+warmup(2)", "ef", 12);
    const std::vector<unsigned> first{0, 2, 5, 8, 12};
    for (std::size_t stage = 0; stage + 1 < first.size(); ++stage) {
      for (unsigned step = first[stage]; step < first[stage + 1]; ++step) {
        EXPECT_EQ(made.bytes[step], made.bytes[first[stage]]) << step;
        EXPECT_EQ(made.compressors[step], made.compressors[first[stage]]) << step;
      }
      if (stage > 0 && comm.size() > 1) {
        EXPECT_LT(made.bytes[first[stage]], 0.7 * static_cast<double>(made.bytes[first[stage] - 1])) << stage;
      }
    }
    EXPECT_THAT(made.compressors[4], HasSubstr("bits=8"));
    EXPECT_THAT(made.compressors[5], HasSubstr("bits=4"));
    EXPECT_THAT(made.compressors[8], HasSubstr("bits=2"));
  });
}

TEST_P(HookSchedule, DgcWarmsUpItsDensity) {
  run([](Communicator& comm) {
    const Steps made = train(comm, "topk(0.001)+dgc(0.9,warmup=2)", "ef", 10, 0.003F);
    const std::vector<std::string> densities{"0.25", "0.0625", "0.015625", "0.004", "0.001"};
    for (unsigned step = 0; step < 10; ++step) {
      EXPECT_THAT(made.compressors[step], HasSubstr("density=" + densities[step / 2])) << step;
      if (step % 2 == 0 && step > 0 && comm.size() > 1) {
        EXPECT_LT(made.bytes[step], made.bytes[step - 1]) << step;
      }
    }
  });
}

/// Likewise where the rule is an option of its own.
TEST_P(HookSchedule, DgcWarmsUpWhereverItIsNamed) {
  run([](Communicator& comm) {
    const Steps inside = train(comm, "topk(0.001)+dgc(0.9,warmup=2)", "ef", 5, 0.003F);
    const Steps apart = train(comm, "topk(0.001)", "dgc(0.9,warmup=2)", 5, 0.003F);
    EXPECT_EQ(apart.compressors, inside.compressors);
    EXPECT_EQ(apart.weights, inside.weights);
  });
}

TEST_P(HookSchedule, EveryNthStepPaysAllDebts) {
  run([](Communicator& comm) {
    for (const char* rule : {"ef", "dgc(0.9)", "ef(bf16)"}) {
      const Steps made = train(comm, "topk(0.02)+every(4)", rule, 13, 0.003F);
      for (unsigned step = 0; step < 13; ++step) EXPECT_EQ(made.owed[step] == 0, step % 4 == 3) << rule << " " << step;
    }
  });
}

TEST_P(HookSchedule, DecayAndResetDropWhatIsOwed) {
  run([](Communicator& comm) {
    for (const char* rule : {"ef", "ef(q8)", "econtrol(0.1)"}) {
      const Steps plain = train(comm, "topk(0.05)", rule, 1);
      const Steps decayed = train(comm, "topk(0.05)+decay(0.5)", rule, 1);
      EXPECT_NEAR(decayed.owed[0], 0.5 * plain.owed[0], 1e-5 * plain.owed[0]) << rule;
      const Steps reset = train(comm, "topk(0.05)+reset(3)", rule, 7);
      for (unsigned step = 0; step < 7; ++step) EXPECT_EQ(reset.owed[step] == 0, step % 3 == 2) << rule << " " << step;
    }
  });
}

TEST_P(HookSchedule, WhatCannotBeScheduledIsRefused) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    const auto complaint = [&](const std::string& first, const std::string& second, const std::string& rule) {
      std::vector<ParamInfo> params = model.params;
      params[0].compressor = first;
      params[2].compressor = second;
      const Outcome outcome = outcome_of([&] { GradientHook(comm, params, toy_options(comm, "q4", rule)); });
      EXPECT_EQ(outcome.code, Errc::invalid_argument) << first << " and " << second;
      return outcome.message;
    };
    for (const char* rule : {"none", "ef21", "ef21_sgdm(0.1)", "diana(0.1)"}) {
      EXPECT_THAT(complaint("q4+decay(0.5)", "q4", rule),
                  HasSubstr("decay and reset need a rule that keeps a residual"));
      EXPECT_THAT(complaint("q4", "q4+reset(5)", rule), HasSubstr("'layer2.weight': decay and reset need"));
    }
    EXPECT_THAT(complaint("q4+dgc(0.9,warmup=3)", "q4", "ef"),
                HasSubstr("'layer0.weight': rule \"dgc(0.9,warmup=3)\""));
    EXPECT_THAT(complaint("q4+ef+ef21", "q4", "ef"), HasSubstr("names two rules"));
    std::vector<ParamInfo> many(7);
    for (unsigned i = 0; i < many.size(); ++i) {
      many[i] = {ParamId{i}, fmt::format("p{}", i), {2000}};
      many[i].compressor = fmt::format("q4+every({})", i + 2);
    }
    const Outcome reasons = outcome_of([&] { GradientHook(comm, many, toy_options(comm, "q4", "ef")); });
    EXPECT_EQ(reasons.code, Errc::invalid_argument);
    EXPECT_THAT(reasons.message, HasSubstr("'p6': the hook has more than 6 different every()"));
    std::vector<ParamInfo> params = model.params;
    params[0].compressor = "q4+ef";
    params[0].rule = "ef21";
    const Outcome both = outcome_of([&] { GradientHook(comm, params, toy_options(comm, "q4", "ef")); });
    EXPECT_THAT(both.message, HasSubstr("the scheme \"q4+ef\" names a rule, and so does `rule`: ef21"));
  });
}

/// Ranks whose schedules differ would go out of step later: they are told at once.
TEST_P(HookSchedule, RanksWithDifferentSchedulesAreToldApart) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    ToyModel model(comm);
    const bool odd = comm.rank() == comm.size() - 1;
    const Outcome outcome = outcome_of(
        [&] { GradientHook(comm, model.params, toy_options(comm, odd ? "q4+warmup(5)" : "q4+warmup(6)", "ef")); });
    EXPECT_EQ(outcome.code, Errc::rank_mismatch);
    EXPECT_THAT(outcome.message, HasSubstr("5 dense steps first"));
    EXPECT_THAT(outcome.message, HasSubstr("6 dense steps first"));
  });
}

/// Each parameter may have its own: steps in which some are dense and others are not.
TEST_P(HookSchedule, ParametersHaveSchedulesOfTheirOwn) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    std::vector<ParamInfo> params = model.params;
    params[0].compressor = "q4+warmup(2)";
    params[2].compressor = "topk(0.05)+ramp(q8,steps=3)+dgc(0.5)";
    params[4].compressor = "powersgd(rank=2)+ef21+every(3)";
    GradientHook hook(comm, params, toy_options(comm, "q4", "ef"));
    for (unsigned step = 0; step < 8; ++step) {
      wait(model.step(hook, step));
      model.descend(0.05F);
      const StepReport report = hook.report();
      EXPECT_EQ(report.params[0].compressor == "dense", step < 2) << step;
      EXPECT_THAT(report.params[2].compressor, HasSubstr(step < 3 ? "bits=8" : "topk")) << step;
      EXPECT_EQ(report.params[4].compressor == "dense", step % 3 == 2) << step;
    }
    expect_equal_on_all_ranks(comm, model.weights, "mixed");
  });
}

/// What makes one parameter's steps dense, its schedule or its rule, is not the others' affair; nor a frozen one's.
TEST_P(HookSchedule, DenseStepsAreAParametersOwn) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    std::vector<ParamInfo> params = model.params;
    params[0].compressor = "sign+onebit_adam(6)";
    params[2].compressor = "q4+ef+every(4)";
    params[4].compressor = "sign+onebit_adam(3)";
    params[5].compressor = "q4+ef+every(3)";
    GradientHook hook(comm, params, toy_options(comm, "q4", "ef"));
    for (unsigned step = 0; step < 16; ++step) {
      if (step == 10) hook.set_frozen(model.id(5), true);
      const bool frozen = step >= 10;
      for (std::size_t p = model.params.size(); p-- > 0;) {
        if (frozen && p == 5) continue;
        model.compute_gradient(p);
        hook.ready(model.id(p), model.gradient(p));
      }
      wait(hook.finish_step());
      const StepReport report = hook.report();
      EXPECT_EQ(report.params[0].compressor == "dense", step < 6) << step;
      EXPECT_EQ(report.params[2].compressor == "dense", step % 4 == 3) << step;
      EXPECT_EQ(report.params[4].compressor == "dense", step < 3) << step;
      EXPECT_EQ(report.params[5].compressor == "dense", step % 3 == 2 && !frozen) << step;
    }
  });
}

/// Dropping residuals takes no memory either, in whatever storage.
TEST_P(HookSchedule, AllocatesNothingInSteadyState) {
  run([](Communicator& comm) {
    if (is_checked(comm)) return;
    for (const char* scheme : {"q4+ef+decay(0.9)", "q4+ef(storage=bf16)+decay(0.9)", "q4+ef+every(2)+reset(3)"}) {
      ToyModel model(comm);
      HookOptions options = toy_options(comm, scheme, "ef");
      options.library_thread = false;  // so that all work is this thread's, and counted
      GradientHook hook(comm, model.params, options);
      expect_steady(
          [&] {
            for (std::size_t p = model.params.size(); p-- > 0;) hook.ready(model.id(p), model.gradient(p));
            hook.finish_step().wait(patience());
          },
          scheme);
    }
  });
}

}  // namespace
}  // namespace gradwire::test
