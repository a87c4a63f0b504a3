// Steps in which not everything takes part: accumulation, unused parameters, ranks without data, frozen parameters.
#include <algorithm>

#include "ranks/hook_suite.hpp"

namespace gradwire::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

class HookUneven : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, HookUneven, ::testing::ValuesIn(worlds()), world_name);

/// A compressing algorithm with nothing to lose: updates are the means, up to the order of the sum.
HookOptions lossless(const Communicator& comm) {
  HookOptions options = toy_options(comm, "none", "ef");
  options.algorithm = "scatter_reduce";
  return options;
}

/// Three backward passes, of factors 1, 1/2 and 1/4, into one sum.
void accumulate(ToyModel& model, GradientHook& hook) {
  ParamValues sums;
  for (const std::vector<float>& gradient : model.gradients) sums.emplace_back(gradient.size());
  const auto backward = [&](float factor) {
    for (std::size_t p = sums.size(); p-- > 0;) {
      model.compute_gradient(p);
      for (std::size_t i = 0; i < sums[p].size(); ++i) sums[p][i] += factor * model.gradients[p][i];
      hook.ready(model.id(p), {sums[p].data(), sums[p].size()});
    }
  };
  {
    const GradientHook::NoSync guard = hook.no_sync();
    backward(1);
    backward(0.5F);
    const ParamValues before = sums;
    hook.unused(model.id(0), {sums[0].data(), sums[0].size()});
    EXPECT_EQ(sums, before) << "unused() does nothing either";
    const Outcome outcome = outcome_of([&] { (void)hook.finish_step(); });
    EXPECT_EQ(outcome.code, Errc::invalid_argument);
    EXPECT_THAT(outcome.message, HasSubstr("a no_sync() guard is alive"));
  }
  backward(0.25F);
  wait(hook.finish_step());
  model.gradients = sums;
}

TEST_P(HookUneven, NoSyncAccumulates) {
  run([](Communicator& comm) {
    for (const char* scheme : {"q4+ef", "topk(0.05)+dgc(0.9)"}) {
      const auto train = [&](bool in_parts) {
        ToyModel model(comm);
        GradientHook hook(comm, model.params, toy_options(comm, scheme, "ef"));
        for (unsigned step = 0; step < 3; ++step) {
          if (in_parts) {
            accumulate(model, hook);
          } else {
            for (std::size_t p = model.params.size(); p-- > 0;) {
              model.compute_gradient(p);
              for (float& value : model.gradients[p]) value = (value + 0.5F * value) + 0.25F * value;
              hook.ready(model.id(p), model.gradient(p));
            }
            wait(hook.finish_step());
          }
          model.descend(0.02F);
        }
        EXPECT_EQ(hook.report().step, 3u);
        return model.weights;
      };
      EXPECT_EQ(train(true), train(false)) << scheme;
    }
  });
}

TEST_P(HookUneven, NoSyncGuardsNest) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, toy_options(comm, "q4", "ef"));
    GradientHook::NoSync outer = hook.no_sync();
    { const GradientHook::NoSync inner = hook.no_sync(); }
    EXPECT_EQ(outcome_of([&] { (void)hook.finish_step(); }).code, Errc::invalid_argument) << "one still lives";
    outer.reset();
    wait(model.step(hook, 0));
    EXPECT_EQ(hook.report().step, 1u);
    model.compute_gradient(2);
    hook.ready(model.id(2), model.gradient(2));
    const Outcome outcome = outcome_of([&] { (void)hook.no_sync(); });
    EXPECT_EQ(outcome.code, Errc::invalid_argument);
    EXPECT_THAT(outcome.message, HasSubstr("no_sync: in mid-step"));
    for (const std::size_t p : {0u, 1u, 3u, 4u, 5u}) {
      model.compute_gradient(p);
      hook.ready(model.id(p), model.gradient(p));
    }
    wait(hook.finish_step());
  });
}

/// The last rank runs out of data after three steps: it goes on with zeros, and the divisor stays n.
TEST_P(HookUneven, ARankWithoutDataCountsAsZeros) {
  run([](Communicator& comm) {
    const auto train = [&](const HookOptions& options) {
      ToyModel model(comm);
      GradientHook hook(comm, model.params, options);
      for (unsigned step = 0; step < 8; ++step) {
        for (std::size_t p = model.params.size(); p-- > 0;) {
          model.compute_gradient(p);
          const bool out_of_data = step >= 3 && comm.rank() == comm.size() - 1;
          out_of_data ? hook.unused(model.id(p), model.gradient(p)) : hook.ready(model.id(p), model.gradient(p));
        }
        wait(hook.finish_step());
        model.descend(0.1F);
      }
      expect_equal_on_all_ranks(comm, model.weights, options.compressor);
      return model.weights;
    };
    const ToyModel model(comm);
    const auto n = static_cast<float>(comm.size());
    ParamValues expected = model.weights;
    for (std::size_t p = 0; p < expected.size(); ++p) {
      for (std::size_t i = 0; i < expected[p].size(); ++i) {
        const float all = model.optimum(p, i);
        const float others = all - model.target(comm.size() - 1, p, i) / n;
        for (unsigned step = 0; step < 8; ++step) {
          float& w = expected[p][i];
          w -= 0.1F * (step < 3 ? w - all : w * (n - 1) / n - others);
        }
      }
    }
    expect_near(train(lossless(comm)), expected, 1e-5F, "without loss");
    // 4 bits: levels are a seventh of the largest element, about 4, and two lossy steps leave half of one each.
    expect_near(train(toy_options(comm, "q4", "ef")), expected, 0.1F, "q4");
  });
}

bool uses(int rank, std::size_t p, unsigned step) { return (static_cast<std::size_t>(rank) + p + step) % 3 != 0; }

TEST_P(HookUneven, UnusedParametersGiveZeros) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, lossless(comm));
    for (unsigned step = 0; step < 3; ++step) {
      for (std::size_t p = 0; p < model.params.size(); ++p) {
        model.compute_gradient(p);
        uses(comm.rank(), p, step) ? hook.ready(model.id(p), model.gradient(p))
                                   : hook.unused(model.id(p), model.gradient(p));
      }
      wait(hook.finish_step());
      for (std::size_t p = 0; p < model.params.size(); ++p) {
        for (std::size_t i = 0; i < model.gradients[p].size(); ++i) {
          float mean = 0;
          for (int rank = 0; rank < comm.size(); ++rank) {
            if (uses(rank, p, step)) mean -= model.target(rank, p, i) / static_cast<float>(comm.size());
          }
          ASSERT_NEAR(model.gradients[p][i], mean, 1e-5F) << "parameter " << p << ", step " << step;
        }
      }
    }
  });
}

/// What is owed goes out even when nobody used the parameter.
TEST_P(HookUneven, UnusedParametersStillPayWhatIsOwed) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, toy_options(comm, "topk(0.1)", "ef"));
    ParamValues delivered = model.weights;
    for (unsigned step = 0; step < 80; ++step) {
      for (std::size_t p = 0; p < model.params.size(); ++p) {
        model.compute_gradient(p);
        step == 0 ? hook.ready(model.id(p), model.gradient(p)) : hook.unused(model.id(p), model.gradient(p));
      }
      wait(hook.finish_step());
      for (std::size_t p = 0; p < delivered.size(); ++p) {
        for (std::size_t i = 0; i < delivered[p].size(); ++i) delivered[p][i] -= model.gradients[p][i];
      }
    }
    EXPECT_EQ(residual_norms(hook), std::vector<double>(6, 0.0));
    for (std::size_t p = 0; p < delivered.size(); ++p) {
      for (std::size_t i = 0; i < delivered[p].size(); ++i)
        ASSERT_NEAR(delivered[p][i], model.optimum(p, i), 1e-5F) << "parameter " << p;
    }
  });
}

TEST_P(HookUneven, WrongUnusedDoesNotHarmTheStep) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, lossless(comm));
    for (std::size_t p = 0; p < model.params.size(); ++p) model.compute_gradient(p);
    const auto unused = [&](ParamId id, Tensor gradient) { return outcome_of([&] { hook.unused(id, gradient); }); };
    hook.ready(model.id(0), model.gradient(0));  // the last bucket's: it cannot go before the others
    EXPECT_THAT(unused(ParamId{99}, model.gradient(0)).message, HasSubstr("no parameter has id 99"));
    EXPECT_THAT(unused(model.id(0), model.gradient(1)).message,
                HasSubstr("'layer0.weight' is registered as f32[2560]"));
    EXPECT_THAT(unused(model.id(0), model.gradient(0)).message, HasSubstr("'layer0.weight' was ready already"));
    for (std::size_t p = 1; p < model.params.size(); ++p) hook.ready(model.id(p), model.gradient(p));
    wait(hook.finish_step());
    for (const std::size_t p : {0u, 2u}) EXPECT_NEAR(model.gradients[p][7], -model.optimum(p, 7), 1e-5F);
  });
}

constexpr std::size_t kFrozen = 2;

/// Two steps, then three in which one parameter is frozen.
void step_without_the_frozen(ToyModel& model, GradientHook& hook) {
  const double owed = residual_norms(hook)[kFrozen];
  const std::vector<float> untouched = model.gradients[kFrozen];  // the last update
  hook.set_frozen(model.id(kFrozen), true);
  hook.set_frozen(model.id(kFrozen), true);  // nothing new
  for (const bool used : {true, false}) {
    const Outcome outcome = outcome_of([&] {
      used ? hook.ready(model.id(kFrozen), model.gradient(kFrozen))
           : hook.unused(model.id(kFrozen), model.gradient(kFrozen));
    });
    EXPECT_EQ(outcome.code, Errc::invalid_argument);
    EXPECT_THAT(outcome.message, HasSubstr("'layer2.weight' is frozen"));
  }
  for (unsigned step = 0; step < 3; ++step) {
    for (std::size_t p = 0; p < model.params.size(); ++p) {
      if (p == kFrozen) continue;
      model.compute_gradient(p);
      hook.ready(model.id(p), model.gradient(p));
    }
    wait(hook.finish_step());
    EXPECT_EQ(model.gradients[kFrozen], untouched);
    EXPECT_EQ(residual_norms(hook)[kFrozen], owed);
    for (const std::size_t p : {0u, 4u}) EXPECT_NE(model.gradients[p], std::vector<float>(model.gradients[p].size()));
  }
  hook.set_frozen(model.id(kFrozen), false);
}

/// Afterwards it goes on as if nothing had been: what it owes is still owed.
TEST_P(HookUneven, FrozenParametersTakeNoPart) {
  run([](Communicator& comm) {
    for (const char* scheme : {"q4+ef", "topk(0.05)+dgc(0.9)", "q4+ef21", "q4+ef(bf16)"}) {
      const auto update_after = [&](bool freeze) {
        ToyModel model(comm);
        GradientHook hook(comm, model.params, toy_options(comm, scheme, "ef"));
        for (unsigned step = 0; step < 2; ++step) wait(model.step(hook, step));
        if (freeze) step_without_the_frozen(model, hook);
        wait(model.step(hook, 9));
        expect_equal_on_all_ranks(comm, model.gradients, scheme);
        return model.gradients[kFrozen];
      };
      EXPECT_EQ(update_after(true), update_after(false)) << scheme;
    }
  });
}

TEST_P(HookUneven, AllMayBeFrozen) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, toy_options(comm, "q4", "ef"));
    wait(model.step(hook, 0));
    for (const ParamInfo& param : model.params) hook.set_frozen(param.id, true);
    EXPECT_EQ(hook.bucket_count(), 0u);
    wait(hook.finish_step());
    EXPECT_EQ(hook.report().step, 2u);
    EXPECT_EQ(hook.report().wire_bytes, 0u);
    EXPECT_EQ(hook.report().dense_bytes, 0u);
    for (const ParamInfo& param : model.params) hook.set_frozen(param.id, false);
    wait(model.step(hook, 2));
    EXPECT_EQ(hook.report().step, 3u);
    expect_equal_on_all_ranks(comm, model.gradients, "thawed");
  });
}

/// Ranks of which one freezes other parameters than the rest: an error on every rank, not a hang.
void freeze_differently(Communicator& comm, std::vector<std::size_t> frozen, std::vector<std::size_t> odd_ones,
                        const std::function<void(const Outcome&)>& check) {
  if (comm.size() == 1) return;
  ToyModel model(comm);
  GradientHook hook(comm, model.params, toy_options(comm, "q4", "ef"));
  if (comm.rank() == comm.size() / 2) frozen = std::move(odd_ones);
  check(outcome_of([&] {
    wait(model.step(hook, 0));  // others may fail in the next step before this rank has seen the end of this one
    for (const std::size_t p : frozen) hook.set_frozen(model.id(p), true);
    for (std::size_t p = model.params.size(); p-- > 0;) {
      if (std::find(frozen.begin(), frozen.end(), p) != frozen.end()) continue;
      model.compute_gradient(p);
      hook.ready(model.id(p), model.gradient(p));
    }
    wait(hook.finish_step());
  }));
}

TEST_P(HookUneven, ARankThatFreezesAnotherIsToldOf) {
  run([](Communicator& comm) {
    freeze_differently(comm, {4}, {2}, [](const Outcome& outcome) {
      EXPECT_THAT(outcome.code, AnyOf(Errc::rank_mismatch, Errc::aborted)) << outcome.message;
      EXPECT_THAT(outcome.message, HasSubstr("layer2.weight"));
    });
  });
}

/// The rank that forgets rebuilds nothing, so it does not know that there is something to compare: whoever finds the
/// first strange message says so, and the others hear that they were aborted for it. At once, not at their deadline.
TEST_P(HookUneven, ARankThatForgetsToFreezeIsToldOf) {
  for (const std::size_t param : {4u, 1u, 0u}) {  // alone in the first bucket, with others, alone in the last one
    run([param](Communicator& comm) {
      freeze_differently(comm, {param}, {}, [](const Outcome& outcome) {
        EXPECT_THAT(outcome.code, AnyOf(Errc::rank_mismatch, Errc::aborted)) << outcome.message;
        EXPECT_THAT(outcome.message, AnyOf(HasSubstr("the ranks differ"), HasSubstr("ranks disagree"),
                                           HasSubstr("a different operation")));
      });
    });
  }
}

TEST_P(HookUneven, WhatIsForBetweenStepsIsRefusedInMidStep) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, toy_options(comm, "q4", "ef"));
    for (const double bad : {0.0, -1.0, static_cast<double>(HUGE_VALF), std::nan("")}) {
      for (const bool first : {true, false}) {
        const Outcome outcome = outcome_of([&] { first ? hook.rescale(bad, 1) : hook.rescale(1, bad); });
        EXPECT_EQ(outcome.code, Errc::invalid_argument);
        EXPECT_THAT(outcome.message, HasSubstr("rescale: loss scales are finite and above 0"));
      }
    }
    const Outcome far = outcome_of([&] { hook.rescale(1e-30, 1e30); });
    EXPECT_EQ(far.code, Errc::invalid_argument);
    EXPECT_THAT(far.message, HasSubstr("by 2^-60 to 2^60 at most"));
    EXPECT_THAT(outcome_of([&] { hook.set_frozen(ParamId{99}, true); }).message, HasSubstr("no parameter has id 99"));
    model.compute_gradient(3);
    hook.ready(model.id(3), model.gradient(3));
    const Outcome rescale = outcome_of([&] { hook.rescale(1, 2); });
    EXPECT_EQ(rescale.code, Errc::invalid_argument);
    EXPECT_THAT(rescale.message, HasSubstr("rescale: in mid-step"));
    const Outcome freeze = outcome_of([&] { hook.set_frozen(model.id(0), true); });
    EXPECT_EQ(freeze.code, Errc::invalid_argument);
    EXPECT_THAT(freeze.message, HasSubstr("set_frozen: in mid-step"));
    for (const std::size_t p : {0u, 1u, 2u, 4u, 5u}) {
      model.compute_gradient(p);
      hook.ready(model.id(p), model.gradient(p));
    }
    wait(hook.finish_step());
    expect_update_of_q4(model, 0);
    EXPECT_FALSE(hook.skipped());
    hook.rescale(1, 2);
    hook.set_frozen(model.id(0), true);
    hook.set_frozen(model.id(0), false);
  });
}

}  // namespace
}  // namespace gradwire::test
