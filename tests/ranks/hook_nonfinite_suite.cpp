// Gradients that are not finite, by policy: a step that is dropped, or summed as it is, and state as it was.
#include "ranks/hook_suite.hpp"

namespace gradwire::test {
namespace {

class HookNonFinite : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, HookNonFinite, ::testing::ValuesIn(worlds()), world_name);

constexpr std::size_t kSick = 4;  // a matrix with a bucket of its own
constexpr std::size_t kPlace = 1234;

/// A step in which one rank's gradient of `param` has such a value.
void sick_step(const Communicator& comm, ToyModel& model, GradientHook& hook, std::size_t param, std::size_t place,
               float value) {
  for (std::size_t p = model.params.size(); p-- > 0;) {
    model.compute_gradient(p);
    if (p == param && comm.rank() == comm.size() - 1) model.gradients[p][place] = value;
    hook.ready(model.id(p), model.gradient(p));
  }
  wait(hook.finish_step());
}

TEST_P(HookNonFinite, ASkippedStepLeavesNoTrace) {
  run([](Communicator& comm) {
    for (const char* scheme : {"q2+ef", "q2+ef(bf16)", "topk(0.05)+ef21", "q4+ef21_sgdm(0.1)",
                               "topk(0.05)+econtrol(0.01)", "topk(0.05)+dgc(0.9)", "q4+diana(0.1)", "q2+none"}) {
      const auto train = [&](bool disturbed) {
        ToyModel model(comm);
        GradientHook hook(comm, model.params, toy_options(comm, scheme, "ef"));
        for (unsigned step = 0; step < 5; ++step) {
          wait(model.step(hook, step));
          model.descend(0.02F);
          EXPECT_FALSE(hook.skipped());
          if (!disturbed || step != 2) continue;
          const std::vector<double> before = residual_norms(hook);
          const std::size_t sick = comm.size() % 2 == 0 ? kSick : 1;  // a matrix, or a vector that travels dense
          sick_step(comm, model, hook, sick, 7, comm.size() % 2 == 0 ? std::nanf("") : HUGE_VALF);
          EXPECT_TRUE(hook.skipped()) << scheme;
          EXPECT_TRUE(hook.report().skipped);
          EXPECT_EQ(hook.report().skipped_steps, 1u);
          EXPECT_EQ(hook.report().dense_fallbacks, 0u);
          EXPECT_EQ(hook.report().step, 4u) << "it counts as a step";
          for (const std::vector<float>& gradient : model.gradients)
            EXPECT_EQ(gradient, std::vector<float>(gradient.size())) << scheme;
          EXPECT_EQ(residual_norms(hook), before) << scheme;
        }
        EXPECT_EQ(hook.report().skipped_steps, disturbed ? 1u : 0u);
        return model.weights;
      };
      EXPECT_EQ(train(true), train(false)) << scheme;
    }
  });
}

/// Low rank keeps bases from step to step, which may go on changing; the state of the rule does not.
TEST_P(HookNonFinite, SkippingWorksOverLowRank) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, toy_options(comm, "powersgd(rank=4)", "ef"));
    for (unsigned step = 0; step < 3; ++step) {
      wait(model.step(hook, step));
      model.descend(0.1F);
    }
    const std::vector<double> before = residual_norms(hook);
    sick_step(comm, model, hook, 2, 100, std::nanf(""));
    EXPECT_TRUE(hook.skipped());
    EXPECT_EQ(residual_norms(hook), before);
    wait(model.step(hook, 4));
    expect_equal_on_all_ranks(comm, model.gradients, "after a skipped step");
    for (const std::vector<float>& gradient : model.gradients) {
      for (const float value : gradient) ASSERT_TRUE(std::isfinite(value));
    }
  });
}

/// The affected bucket is summed as it is, and its parameters' state waits; the others take the step.
TEST_P(HookNonFinite, DenseSumsTheBucketAsItIs) {
  run([](Communicator& comm) {
    for (const char* scheme : {"q4+ef", "q4+ef(bf16)", "topk(0.05)+dgc(0.9)", "q4+ef21", "powersgd(rank=4)+ef"}) {
      for (const float value : {std::nanf(""), -HUGE_VALF}) {
        ToyModel model(comm);
        HookOptions options = toy_options(comm, scheme, "ef");
        options.non_finite = NonFinite::dense;
        options.bucket_bytes = 1;  // a bucket for each
        GradientHook hook(comm, model.params, options);
        wait(model.step(hook, 0));
        const std::vector<double> before = residual_norms(hook);
        sick_step(comm, model, hook, kSick, kPlace, value);
        EXPECT_FALSE(hook.skipped());
        EXPECT_EQ(hook.report().dense_fallbacks, 1u);
        EXPECT_EQ(hook.report().skipped_steps, 0u);
        const std::vector<double> after = residual_norms(hook);
        EXPECT_EQ(after[kSick], before[kSick]) << scheme;
        if (before[0] > 0) {
          EXPECT_NE(after[0], before[0]) << scheme << ": the others take the step";
        }
        for (std::size_t i = 0; i < model.gradients[kSick].size(); ++i) {
          const float update = model.gradients[kSick][i];
          if (i == kPlace) {
            EXPECT_TRUE(std::isnan(value) ? std::isnan(update) : update == value) << scheme;
          } else {
            ASSERT_NEAR(update, -model.optimum(kSick, i), 1e-5F) << scheme << ": the mean of the gradients";
          }
        }
        for (const std::size_t p : {0u, 1u, 2u, 3u, 5u}) {
          for (const float update : model.gradients[p]) ASSERT_TRUE(std::isfinite(update)) << scheme;
        }
        expect_equal_on_all_ranks(comm, {model.gradients[0], model.gradients[1], model.gradients[2]}, scheme);
        wait(model.step(hook, 2));
        EXPECT_EQ(hook.report().dense_fallbacks, 1u) << "since the hook was made";
        expect_equal_on_all_ranks(comm, model.gradients, scheme);
      }
    }
  });
}

/// The parameter's own state is bit for bit what it would be without the step.
TEST_P(HookNonFinite, DenseKeepsTheStateOfWhatItSent) {
  run([](Communicator& comm) {
    for (const char* scheme : {"q2+ef", "topk(0.05)+dgc(0.9)", "topk(0.05)+econtrol(0.1)"}) {
      const auto third_update = [&](bool disturbed) {
        ToyModel model(comm);
        HookOptions options = toy_options(comm, scheme, "ef");
        options.non_finite = NonFinite::dense;
        GradientHook hook(comm, model.params, options);
        for (unsigned step = 0; step < 2; ++step) wait(model.step(hook, step));
        if (disturbed) sick_step(comm, model, hook, kSick, kPlace, HUGE_VALF);
        wait(model.step(hook, 3));
        return model.gradients[kSick];
      };
      EXPECT_EQ(third_update(true), third_update(false)) << scheme;
    }
  });
}

/// Vectors, which travel dense anyway: with them everything in their bucket.
TEST_P(HookNonFinite, DenseTakesVectorsToo) {
  run([](Communicator& comm) {
    for (const char* rule : {"ef", "dgc(0.9)"}) {
      ToyModel model(comm);
      HookOptions options = toy_options(comm, "q4", rule);
      options.non_finite = NonFinite::dense;
      GradientHook hook(comm, model.params, options);
      sick_step(comm, model, hook, 1, 3, HUGE_VALF);
      EXPECT_EQ(hook.report().dense_fallbacks, 1u);
      EXPECT_EQ(model.gradients[1][3], HUGE_VALF);
      EXPECT_NEAR(model.gradients[1][4], -model.optimum(1, 4), 1e-5F);
      EXPECT_NEAR(model.gradients[5][4], -model.optimum(5, 4), 1e-5F);
      wait(model.step(hook, 1));
      EXPECT_NEAR(model.gradients[1][3], -model.optimum(1, 3), 1e-5F) << "no momentum of an infinity";
      expect_equal_on_all_ranks(comm, model.gradients, rule);
    }
  });
}

/// Sixteen bits: what overflowed in the backward pass.
TEST_P(HookNonFinite, PoliciesHoldForSixteenBitGradients) {
  run([](Communicator& comm) {
    for (const NonFinite policy : {NonFinite::skip, NonFinite::dense, NonFinite::error}) {
      const std::vector<ParamInfo> params{{ParamId{1}, "w", {60, 50}, DType::f16, {}, {}}};
      HookOptions options = toy_options(comm, "q4", "ef");
      options.non_finite = policy;
      GradientHook hook(comm, params, options);
      const auto step = [&](bool overflow) {
        std::vector<std::uint16_t> w(3000, 0x3C00);        // ones
        if (overflow && comm.rank() == 0) w[17] = 0x7C00;  // Inf
        hook.ready(ParamId{1}, {w.data(), w.size(), DType::f16});
        const Outcome outcome = outcome_of([&] { wait(hook.finish_step()); });
        EXPECT_EQ(outcome.code, overflow && policy == NonFinite::error ? Errc::non_finite : Errc::ok);
        return w;
      };
      EXPECT_EQ(step(false), std::vector<std::uint16_t>(3000, 0x3C00));
      const std::vector<std::uint16_t> sick = step(true);
      if (policy == NonFinite::skip) {
        EXPECT_EQ(sick, std::vector<std::uint16_t>(3000, 0));
      }
      if (policy == NonFinite::dense) {
        EXPECT_EQ(sick[17], 0x7C00);
        EXPECT_EQ(sick[18], 0x3C00);
      }
      EXPECT_EQ(step(false), std::vector<std::uint16_t>(3000, 0x3C00));
    }
  });
}

/// A missing gradient is a mistake under every policy, whatever else is wrong in the step.
TEST_P(HookNonFinite, AMissingGradientIsNoneOfTheseMatters) {
  run([](Communicator& comm) {
    for (const NonFinite policy : {NonFinite::skip, NonFinite::dense, NonFinite::error}) {
      ToyModel model(comm);
      HookOptions options = toy_options(comm, "q4", "ef");
      options.non_finite = policy;
      GradientHook hook(comm, model.params, options);
      for (std::size_t p = model.params.size(); p-- > 0;) {
        model.compute_gradient(p);
        if (p == kSick && comm.rank() == 0) model.gradients[p][99] = std::nanf("");  // the first bucket
        if (p != 0 || comm.rank() != comm.size() - 1) hook.ready(model.id(p), model.gradient(p));
      }
      const Outcome outcome = outcome_of([&] { wait(hook.finish_step()); });
      EXPECT_EQ(outcome.code, Errc::invalid_argument) << outcome.message;
      wait(model.step(hook, 1));
      expect_update_of_q4(model, 0);
    }
  });
}

}  // namespace
}  // namespace gradwire::test
