// 1-bit Adam in the hook: the rule's dense steps, what they cost and save, and what happens to them when steps are
// lost.
#include "ranks/adam_suite.hpp"

#include <cstring>
#include <filesystem>
#include <limits>

#include "ranks/hook_state.hpp"
#include "train/checkpoint.hpp"

namespace gradwire::test {
namespace {

class OneBitAdam : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, OneBitAdam, ::testing::ValuesIn(worlds()), world_name);

HookOptions options_for(const Communicator& comm, const std::string& compressor, const std::string& rule) {
  HookOptions options;
  options.compressor = compressor;
  options.rule = rule;
  options.bucket_bytes = 50'000;
  options.timeout = std::chrono::seconds(50);
  options.library_thread = comm.transport().info().any_thread;
  return options;
}

/// Momenta of one bit end nearly where dense ones do, on weights that are the same on all ranks.
TEST_P(OneBitAdam, ConvergesLikeDenseAdam) {
  run([](Communicator& comm) {
    constexpr unsigned kSteps = 300;
    const auto train = [&](const std::string& compressor) {
      NoisyModel model(comm);
      GradientHook hook(comm, model.params, options_for(comm, compressor, "onebit_adam(60,beta2=0.95)"));
      for (unsigned step = 0; step < kSteps; ++step) {
        model.step(hook, step);
        model.descend(falling_rate(0.02F, step, kSteps));
      }
      EXPECT_TRUE(model.equal_on_all_ranks(comm)) << compressor;
      return model.distance();
    };
    const double start = NoisyModel(comm).distance();
    const double dense = train("none");
    const double one_bit = train("sign");
    EXPECT_LT(dense, start / 4);
    EXPECT_LT(one_bit, 1.2 * dense);
  });
}

TEST_P(OneBitAdam, SendsLittleOnceTheVarianceIsFrozen) {
  run([](Communicator& comm) {
    NoisyModel model(comm);
    GradientHook hook(comm, model.params, options_for(comm, "sign", "onebit_adam(3)"));
    for (unsigned step = 0; step < 6; ++step) {
      model.step(hook, step);
      const StepReport report = hook.report();
      EXPECT_EQ(report.params[0].compressor, step < 3 ? "dense" : "sign(bucket=512)") << step;
      EXPECT_EQ(report.params[1].compressor, "dense");
      EXPECT_EQ(report.params[0].residual_norm > 0, step >= 3) << step;
      if (comm.size() == 1) continue;
      if (step < 3) {
        EXPECT_GE(report.wire_bytes, report.dense_bytes);
      } else {
        EXPECT_LT(20 * report.wire_bytes, report.dense_bytes) << report.wire_bytes;
      }
    }
  });
}

/// A step that is dropped teaches the variance nothing: one more is dense, on all ranks.
TEST_P(OneBitAdam, SkippedStepsAreMadeUpFor) {
  run([](Communicator& comm) {
    NoisyModel model(comm);
    GradientHook hook(comm, model.params, options_for(comm, "sign+onebit_adam(3)", "ef"));
    for (unsigned step = 0; step < 7; ++step) {
      model.compute_gradients(step);
      if (step == 1 && comm.rank() == comm.size() - 1) model.gradients[0][5] = std::numeric_limits<float>::infinity();
      model.send(hook);
      EXPECT_EQ(hook.skipped(), step == 1);
      EXPECT_EQ(hook.report().params[0].compressor, step < 4 ? "dense" : "sign(bucket=512)") << step;
    }
  });
}

/// A parameter that joins late learns its variance late, in dense steps of its own count.
TEST_P(OneBitAdam, AThawedParameterHasItsDenseSteps) {
  run([](Communicator& comm) {
    NoisyModel model(comm);
    GradientHook hook(comm, model.params, options_for(comm, "sign", "onebit_adam(3)"));
    hook.set_frozen(model.params[2].id, true);
    for (unsigned step = 0; step < 9; ++step) {
      if (step == 5) hook.set_frozen(model.params[2].id, false);
      model.compute_gradients(step);
      if (step < 5) std::fill(model.gradients[2].begin(), model.gradients[2].end(), 0.0F);
      for (std::size_t p = 0; p < model.params.size(); ++p) {
        if (p < 2 || step >= 5) hook.ready(model.params[p].id, {model.gradients[p].data(), model.gradients[p].size()});
      }
      wait(hook.finish_step());
      const bool dense = step < 3 || (step >= 5 && step < 8);
      EXPECT_EQ(hook.report().params[0].compressor, dense ? "dense" : "sign(bucket=512)") << step;
      if (step >= 5) {
        EXPECT_EQ(hook.report().params[2].compressor, dense ? "dense" : "sign(bucket=512)") << step;
      }
      model.descend(0.01F);
      if (step >= 5) {
        for (const float moved : model.gradients[2]) ASSERT_NE(moved, 0) << step;
      }
    }
    EXPECT_TRUE(model.equal_on_all_ranks(comm));
  });
}

/// A loss scale that grows in mid-run changes no update: momenta grow with it, the variance with its square.
TEST_P(OneBitAdam, FollowsTheLossScale) {
  run([](Communicator& comm) {
    const auto train = [&](float scale) {
      NoisyModel model(comm);
      GradientHook hook(comm, model.params, options_for(comm, "sign", "onebit_adam(4,eps=1e-30)"));
      for (unsigned step = 0; step < 10; ++step) {
        if (step == 2 || step == 7) hook.rescale(1, scale);
        const float now = step < 2 ? 1 : step < 7 ? scale : scale * scale;
        model.compute_gradients(step);
        for (auto& gradient : model.gradients) {
          for (float& g : gradient) g *= now;
        }
        model.send(hook);
        model.descend(0.01F);
      }
      return model.weights;
    };
    EXPECT_EQ(train(8), train(1));
  });
}

/// Under a rule that freezes earlier than the saved one did, the variance stays from the first step on.
TEST_P(OneBitAdam, LoadsWhatFrozeLater) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    NoisyModel model(comm);
    {
      GradientHook hook(comm, model.params, options_for(comm, "sign", "onebit_adam(6)"));
      for (unsigned step = 0; step < 5; ++step) model.step(hook, step);
      hook.save(folder / "later");
    }
    comm.barrier(patience());
    GradientHook hook(comm, model.params, options_for(comm, "sign", "onebit_adam(3)"));
    hook.load(folder / "later");
    for (unsigned step = 5; step < 8; ++step) model.step(hook, step);
    EXPECT_EQ(std::string(hook.report().params[0].compressor), make_compressor("sign").spec());
    folder.remove();
  });
}

std::vector<double> values_of(const SavedVector& vector) {
  std::vector<float> values(vector.bytes.size() / sizeof(float));
  std::memcpy(values.data(), vector.bytes.data(), vector.bytes.size());
  return {values.begin(), values.end()};
}

/// One more rank takes up the same moments and count, and an equal share of what all ranks owe together.
void expect_shared_out(const std::filesystem::path& folder, int ranks, bool owes) {
  std::vector<SavedState> then;
  for (int rank = 0; rank < ranks; ++rank) then.push_back(gather_state(folder, rank, ranks));
  const SavedState now = gather_state(folder, ranks, ranks + 1);
  ASSERT_EQ(now.params.size(), then.front().params.size());
  double owed = 0;
  for (std::size_t p = 0; p < now.params.size(); ++p) {
    ASSERT_EQ(now.params[p].vectors.size(), then.front().params[p].vectors.size());
    for (std::size_t v = 0; v < now.params[p].vectors.size(); ++v) {
      const SavedVector& vector = now.params[p].vectors[v];
      if (vector.name == "variance steps") {
        EXPECT_EQ(vector.bytes.size(), sizeof(float));
      }
      if (vector.kind == StateKind::replicated) {
        for (const SavedState& state : then) EXPECT_EQ(vector.bytes, state.params[p].vectors[v].bytes) << vector.name;
        continue;
      }
      const std::vector<double> share = values_of(vector);
      std::vector<double> sum(share.size());
      for (const SavedState& state : then) {
        const std::vector<double> part = values_of(state.params[p].vectors[v]);
        ASSERT_EQ(part.size(), share.size()) << vector.name;
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
      }
      for (std::size_t i = 0; i < sum.size(); ++i) {
        owed = std::max(owed, std::abs(sum[i]));
        ASSERT_NEAR(share[i] * (ranks + 1), sum[i], 1e-6 * std::abs(sum[i])) << vector.name << ", element " << i;
      }
    }
  }
  EXPECT_EQ(owed > 0, owes);
}

/// A run that is resumed in its dense steps, or after them, goes on bit for bit.
TEST_P(OneBitAdam, ResumesBitForBit) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    for (const unsigned stop : {2u, 6u}) {
      const std::string name = fmt::format("after-{}", stop);
      NoisyModel model(comm);
      std::vector<std::vector<float>> saved;
      const auto train = [&](unsigned first, unsigned last, bool loads) {
        GradientHook hook(comm, model.params, options_for(comm, "sign", "onebit_adam(4)"));
        if (loads) hook.load(folder / name);
        for (unsigned step = first; step < last; ++step) {
          if (step == stop && !loads) {
            hook.save(folder / name);
            saved = model.weights;
          }
          model.step(hook, step);
          model.descend(0.01F);
        }
      };
      train(0, 10, false);
      const std::vector<std::vector<float>> straight = std::exchange(model.weights, saved);
      train(stop, 10, true);
      EXPECT_EQ(model.weights, straight) << stop;

      comm.barrier(patience());
      expect_shared_out(folder / name, comm.size(), stop > 4);
    }
    folder.remove();
  });
}

}  // namespace
}  // namespace gradwire::test
