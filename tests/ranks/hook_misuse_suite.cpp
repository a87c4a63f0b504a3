// Wrong calls, missing and non-finite gradients, ranks that registered differently or leave: an error that names the
// thing, on every rank, and state that is as it was.
#include "ranks/hook_suite.hpp"

namespace gradwire::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

class HookMisuse : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, HookMisuse, ::testing::ValuesIn(worlds()), world_name);

HookOptions options_for(const Communicator& comm) {
  HookOptions options = toy_options();
  options.library_thread = comm.transport().info().any_thread;
  options.non_finite = NonFinite::error;
  return options;
}

TEST_P(HookMisuse, RegistrationIsChecked) {
  run([](Communicator& comm) {
    const auto build = [&](std::vector<ParamInfo> params, HookOptions options) {
      return outcome_of([&] { GradientHook(comm, std::move(params), std::move(options)); });
    };
    ToyModel model(comm);
    EXPECT_THAT(build({}, options_for(comm)).message, HasSubstr("at least one parameter"));
    std::vector<ParamInfo> twice = model.params;
    twice[3].id = twice[0].id;
    EXPECT_THAT(build(twice, options_for(comm)).message, HasSubstr("'layer3.weight' has the id 10 of another one"));
    std::vector<ParamInfo> empty = model.params;
    empty[2].shape = {5, 0};
    EXPECT_THAT(build(empty, options_for(comm)).message, HasSubstr("'layer2.weight' has an empty shape [5x0]"));
    HookOptions options = options_for(comm);
    options.compressor = "q9";
    EXPECT_EQ(build(model.params, options).code, Errc::invalid_argument);
    options = options_for(comm);
    options.rule = "momentum";
    EXPECT_THAT(build(model.params, options).message, HasSubstr("unknown feedback rule \"momentum\""));
    options = options_for(comm);
    options.algorithm = "dense";
    EXPECT_EQ(build(model.params, options).code, Errc::unsupported) << "q4 over dense";
  });
}

TEST_P(HookMisuse, RanksThatRegisterDifferentlyAreToldApart) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    ToyModel model(comm);
    const int odd = comm.size() - 1;
    if (comm.rank() == odd) model.params[2].shape = {70, 50};
    const Outcome shapes = outcome_of([&] { GradientHook(comm, model.params, options_for(comm)); });
    EXPECT_EQ(shapes.code, Errc::rank_mismatch);
    EXPECT_THAT(shapes.message, HasSubstr("parameter 'layer2.weight'"));
    EXPECT_THAT(shapes.message, HasSubstr("f32[50x70]"));
    EXPECT_THAT(shapes.message, HasSubstr(fmt::format("rank {} has 'id 12 f32[70x50]", odd)));

    ToyModel same(comm);
    HookOptions options = options_for(comm);
    options.compressor = comm.rank() == odd ? "q8" : "q4";
    const Outcome compressors = outcome_of([&] { GradientHook(comm, same.params, options); });
    EXPECT_EQ(compressors.code, Errc::rank_mismatch);
    EXPECT_THAT(compressors.message, HasSubstr("bits=8"));
  });
}

/// Wrong calls to ready() are refused one by one; the step then goes on as if they had not been.
TEST_P(HookMisuse, WrongReadyDoesNotHarmTheStep) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, options_for(comm));
    for (std::size_t p = 0; p < model.params.size(); ++p) model.compute_gradient(p);
    const auto ready = [&](ParamId id, Tensor gradient) { return outcome_of([&] { hook.ready(id, gradient); }); };
    EXPECT_THAT(ready(ParamId{99}, model.gradient(0)).message, HasSubstr("no parameter has id 99"));
    EXPECT_THAT(ready(model.id(0), model.gradient(1)).message, HasSubstr("'layer0.weight' is registered as f32[2560]"));
    Tensor half = model.gradient(0);
    half.dtype = DType::f16;
    EXPECT_THAT(ready(model.id(0), half).message, HasSubstr("f16[2560]"));
    EXPECT_THAT(ready(model.id(0), Tensor{nullptr, 2560}).message, HasSubstr("has no memory"));
    EXPECT_EQ(ready(model.id(0), Tensor{model.gradients[0].data(), 2560, DType::f32, Space::device}).code,
              Errc::invalid_argument);
    hook.ready(model.id(4), model.gradient(4));
    EXPECT_THAT(ready(model.id(4), model.gradient(4)).message, HasSubstr("'layer4.weight' was ready already"));
    for (const std::size_t p : {0u, 1u, 2u, 3u, 5u}) hook.ready(model.id(p), model.gradient(p));
    wait(hook.finish_step());
    for (const std::size_t p : {0u, 4u}) expect_update_of_q4(model, p);
    EXPECT_EQ(hook.report().step, 1u);
  });
}

TEST_P(HookMisuse, MissingGradientFailsTheStepOnAllRanks) {
  run([](Communicator& comm) {
    for (const std::size_t missing : {std::size_t{2}, std::size_t{5}}) {  // a matrix, and a vector that goes dense
      ToyModel model(comm);
      GradientHook hook(comm, model.params, options_for(comm));
      const int culprit = comm.size() / 2;
      for (std::size_t p = 0; p < model.params.size(); ++p) {
        model.compute_gradient(p);
        if (p != missing || comm.rank() != culprit) hook.ready(model.id(p), model.gradient(p));
      }
      const Outcome outcome = outcome_of([&] { wait(hook.finish_step()); });
      EXPECT_EQ(outcome.code, Errc::invalid_argument) << outcome.message;
      EXPECT_THAT(outcome.message, HasSubstr(fmt::format("'layer{}.weight' was missing on rank {}", missing, culprit)));
      wait(model.step(hook, 1));  // the next step is none the worse
      expect_update_of_q4(model, 0);
    }
  });
}

/// After a step with a NaN, training goes on bit for bit as if that step had never been.
TEST_P(HookMisuse, NonFiniteGradientLeavesNoTrace) {
  run([](Communicator& comm) {
    const auto train = [&](bool disturbed) {
      ToyModel model(comm);
      HookOptions options = options_for(comm);
      options.compressor = "q2";
      GradientHook hook(comm, model.params, options);
      for (unsigned step = 0; step < 6; ++step) {
        if (disturbed && step == 3) {
          for (std::size_t p = 0; p < model.params.size(); ++p) {
            model.compute_gradient(p);
            if (p == 4 && comm.rank() == comm.size() - 1) model.gradients[p][1234] = std::nanf("");
            hook.ready(model.id(p), model.gradient(p));
          }
          const Outcome outcome = outcome_of([&] { wait(hook.finish_step()); });
          EXPECT_EQ(outcome.code, Errc::non_finite);
          EXPECT_THAT(outcome.message, HasSubstr(fmt::format("'layer4.weight' on rank {}", comm.size() - 1)));
        }
        wait(model.step(hook, step));
        model.descend(0.2F);
      }
      return model.weights;
    };
    EXPECT_EQ(train(true), train(false));
  });
}

TEST_P(HookMisuse, NonFiniteVectorIsNamedToo) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, options_for(comm));
    for (std::size_t p = 0; p < model.params.size(); ++p) {
      model.compute_gradient(p);
      if (p == 1 && comm.rank() == 0) model.gradients[p][3] = HUGE_VALF;
      hook.ready(model.id(p), model.gradient(p));
    }
    const Outcome outcome = outcome_of([&] { wait(hook.finish_step()); });
    EXPECT_EQ(outcome.code, Errc::non_finite);
    EXPECT_THAT(outcome.message, HasSubstr("'layer1.weight' on rank 0"));
  });
}

TEST_P(HookMisuse, CallsOutOfOrderAreRefused) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    HookOptions options = options_for(comm);
    GradientHook hook(comm, model.params, options);
    if (options.library_thread) {
      EXPECT_EQ(outcome_of([&] { hook.progress(); }).code, Errc::invalid_argument);
    }
    wait(model.step(hook, 0));
    if (comm.rank() != 0) comm.barrier(patience());  // so that rank 0's step cannot end before it has tried these
    const Work work = model.step(hook, 1);
    if (comm.rank() == 0 && comm.size() > 1) {
      const Outcome ready = outcome_of([&] { hook.ready(model.id(2), model.gradient(2)); });
      EXPECT_EQ(ready.code, Errc::invalid_argument);
      EXPECT_THAT(ready.message, HasSubstr("'layer2.weight' came after finish_step() and before its Work was done"));
      const Outcome finish = outcome_of([&] { (void)hook.finish_step(); });
      EXPECT_EQ(finish.code, Errc::invalid_argument);
      EXPECT_THAT(finish.message, HasSubstr("the last step's Work is not done yet"));
      const Outcome report = outcome_of([&] { (void)hook.report(); });
      EXPECT_EQ(report.code, Errc::invalid_argument);
      EXPECT_THAT(report.message, HasSubstr("report: a step is under way, and its Work is not done yet"));
    }
    if (comm.rank() == 0) comm.barrier(patience());
    wait(work);
    EXPECT_EQ(hook.report().step, 2u);
  });
}

/// What only the caller's thread may use has no room for the hook's own thread.
TEST_P(HookMisuse, AThreadOfItsOwnNeedsATransportForAnyThread) {
  run([](Communicator& comm) {
    if (comm.transport().info().any_thread) return;
    ToyModel model(comm);
    HookOptions options = options_for(comm);
    options.library_thread = true;
    const Outcome outcome = outcome_of([&] { GradientHook(comm, model.params, options); });
    EXPECT_EQ(outcome.code, Errc::unsupported);
    EXPECT_THAT(outcome.message, HasSubstr("may be used from one thread only"));
    EXPECT_THAT(outcome.message, HasSubstr("library_thread = false"));
  });
}

/// The others hear at once what is wrong, and where; not at their deadline.
TEST_P(HookMisuse, OneRanksBadRegistrationIsEveryRanksError) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    ToyModel model(comm);
    const int odd = comm.size() - 1;
    if (comm.rank() == odd) model.params[2].compressor = "q9";
    const Outcome outcome = outcome_of([&] { GradientHook(comm, model.params, options_for(comm)); });
    EXPECT_EQ(outcome.code, comm.rank() == odd ? Errc::invalid_argument : Errc::rank_mismatch) << outcome.message;
    EXPECT_THAT(outcome.message, HasSubstr("parameter 'layer2.weight': "));
    EXPECT_THAT(outcome.message, HasSubstr("q9"));
    EXPECT_THAT(outcome.message, HasSubstr(comm.rank() == odd ? "" : fmt::format("rank {} has", odd)));

    ToyModel good(comm);
    GradientHook hook(comm, good.params, options_for(comm));
    wait(good.step(hook, 0));
  });
}

/// Several large dense gradients are missing while their all-reduces are in flight at the same time.
TEST_P(HookMisuse, MissingDenseGradientsHaveMemoryOfTheirOwn) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    HookOptions options = options_for(comm);
    options.compressor = "none";
    options.bucket_bytes = 1;  // a bucket for each
    GradientHook hook(comm, model.params, options);
    for (std::size_t p = 0; p < model.params.size(); ++p) {
      model.compute_gradient(p);
      if (comm.rank() != comm.size() - 1) hook.ready(model.id(p), model.gradient(p));
    }
    const Outcome outcome = outcome_of([&] { wait(hook.finish_step()); });
    EXPECT_EQ(outcome.code, Errc::invalid_argument) << outcome.message;
    EXPECT_THAT(outcome.message, HasSubstr(fmt::format("'layer5.weight' was missing on rank {}", comm.size() - 1)));
    wait(model.step(hook, 1));
    for (const std::size_t p : {0u, 3u, 5u}) EXPECT_NEAR(model.gradients[p][7], -model.optimum(p, 7), 1e-4F);
  });
}

/// Its thread starts operations whenever gradients are ready: two hooks would start theirs in different orders.
TEST_P(HookMisuse, TwoHooksNeedTwoCommunicators) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    {
      GradientHook hook(comm, model.params, options_for(comm));
      const Outcome second = outcome_of([&] { GradientHook(comm, model.params, options_for(comm)); });
      EXPECT_EQ(second.code, Errc::invalid_argument);
      EXPECT_THAT(second.message, HasSubstr("a GradientHook uses this one"));
    }
    GradientHook next(comm, model.params, options_for(comm));
    wait(model.step(next, 0));
  });
}

/// Rank 0 lacks a gradient and the last rank has a NaN: all ranks report the same of the two.
TEST_P(HookMisuse, RanksAgreeOnOneOfSeveralFailures) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, options_for(comm));
    for (std::size_t p = 0; p < model.params.size(); ++p) {
      model.compute_gradient(p);
      if (p == 4 && comm.rank() == comm.size() - 1) model.gradients[p][99] = std::nanf("");
      if (p != 4 || comm.rank() != 0) hook.ready(model.id(p), model.gradient(p));
    }
    const Outcome outcome = outcome_of([&] { wait(hook.finish_step()); });
    EXPECT_EQ(outcome.code, Errc::invalid_argument) << outcome.message;
    EXPECT_THAT(outcome.message, HasSubstr("'layer4.weight' was missing on rank 0"));
  });
}

/// A rank that leaves in mid-step ends the step for the others at once, not at their deadline.
TEST_P(HookMisuse, LeavingInMidStepWakesTheOthers) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    ToyModel model(comm);
    GradientHook hook(comm, model.params, options_for(comm));
    if (comm.rank() == 0) {
      wait(model.step(hook, 0));
      model.compute_gradient(0);
      hook.ready(model.id(0), model.gradient(0));
      { const GradientHook gone = std::move(hook); }
      return;
    }
    // Rank 0 may be gone before the others have seen the end of the step that it finished.
    const Outcome outcome = outcome_of([&] {
      for (const unsigned step : {0u, 1u}) wait(model.step(hook, step));
    });
    EXPECT_EQ(outcome.code, Errc::aborted) << outcome.message;
    EXPECT_THAT(outcome.message, HasSubstr("destroyed in mid-step"));
    EXPECT_EQ(outcome_of([&] { wait(model.step(hook, 2)); }).code, Errc::aborted) << "it stays so";
  });
}

}  // namespace
}  // namespace gradwire::test
