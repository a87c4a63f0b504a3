// 0/1 Adam: its steps, their equations, what they send and where they end.
#include "ranks/zero_one_adam_suite.hpp"

#include <limits>

#include "ranks/steady.hpp"

namespace gradwire::test {
namespace {

using Kind = ZeroOneStep::Kind;
using ::testing::HasSubstr;

class ZeroOne : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, ZeroOne, ::testing::ValuesIn(worlds()), world_name);

TEST_P(ZeroOne, StepsFollowTheirIntervals) {
  run([](Communicator& comm) {
    NoisyModel model(comm);
    ZeroOneAdam adam(comm, model.params, small_options());
    for (unsigned s = 1; s <= 130; ++s) {
      const ZeroOneStep made = step(adam, model, s, 0.01F);
      EXPECT_EQ(made.kind, expected_kind(s)) << "step " << s;
      EXPECT_FALSE(made.skipped);
      EXPECT_EQ(adam.steps(), s);
      EXPECT_EQ(adam.synchronised(), made.kind != Kind::local) << "step " << s;
      if (s % 3 == 0 || s > 56) {
        EXPECT_EQ(model.equal_on_all_ranks(comm), made.kind != Kind::local || comm.size() == 1) << "step " << s;
      }
      if (comm.size() == 1) continue;
      if (made.kind == Kind::variance) {
        EXPECT_GE(made.wire_bytes, made.dense_bytes);
      }
      if (made.kind == Kind::local) {
        EXPECT_EQ(made.wire_bytes, 0u);
      }
      if (made.kind == Kind::gradient || made.kind == Kind::synchronise) {
        EXPECT_GT(made.wire_bytes, 0u);
        EXPECT_LT(20 * made.wire_bytes, made.dense_bytes);
      }
    }
  });
}

/// Without compression, in double, on one process that knows all ranks' gradients: rank r goes its way in local steps.
struct Oracle {
  struct Way {
    std::vector<double> w, m, sum;
  };
  std::vector<Way> ranks;
  std::vector<double> v, base;
  double rates = 0;

  void step(Kind kind, const std::vector<std::vector<double>>& gradients, double rate) {
    const std::size_t count = v.size();
    const double n = static_cast<double>(ranks.size());
    const bool local = kind == Kind::local || kind == Kind::synchronise;
    if (!local) base.clear();
    if (local && base.empty()) base = ranks[0].w;
    for (std::size_t i = 0; i < count; ++i) {
      double mean = 0;
      for (const auto& g : gradients) mean += g[i] / n;
      if (kind == Kind::variance) v[i] = 0.95 * v[i] + 0.05 * mean * mean;
      double together = 0;
      for (std::size_t r = 0; r < ranks.size(); ++r) {
        Way& way = ranks[r];
        way.m[i] = 0.9 * way.m[i] + 0.1 * (local ? gradients[r][i] : mean);
        way.w[i] -= rate * (way.m[i] / (std::sqrt(v[i]) + 1e-8) + 0.1 * way.w[i]);
        if (local) way.sum[i] += rate * way.m[i];
        together += way.sum[i] / n;
      }
      if (kind != Kind::synchronise) continue;
      base[i] -= together / (std::sqrt(v[i]) + 1e-8) + 0.1 * (rates + rate) * base[i];
      for (Way& way : ranks) {
        way.w[i] = base[i];
        way.m[i] = together / (rates + rate);
        way.sum[i] = 0;
      }
    }
    if (local) rates += rate;
    if (kind == Kind::synchronise) rates = 0;
  }
};

TEST_P(ZeroOne, WithoutLossItIsItsEquations) {
  run([](Communicator& comm) {
    ZeroOneAdamOptions options = small_options();
    options.compressor = "none";
    options.weight_decay = 0.1F;
    const std::size_t count = 50;
    std::vector<ParamInfo> params{{ParamId{1}, "w", {count}}};
    ZeroOneAdam adam(comm, params, options);
    std::vector<float> w(count, 0.5F);
    std::vector<float> g(count);
    const Tensor weights{w.data(), count};
    const Tensor gradients{g.data(), count};
    const auto n = static_cast<std::size_t>(comm.size());
    const std::vector<double> zeros(count);
    Oracle oracle{std::vector<Oracle::Way>(n, {std::vector<double>(count, 0.5), zeros, zeros}), zeros, {}};
    for (unsigned s = 1; s <= 100; ++s) {
      std::vector<std::vector<double>> all(n, zeros);
      for (std::size_t r = 0; r < n; ++r) {
        for (std::size_t i = 0; i < count; ++i) {
          all[r][i] = std::sin(static_cast<double>(i + 3 * r + 1) * s) + 0.1 * static_cast<double>(i);
        }
      }
      for (std::size_t i = 0; i < count; ++i) g[i] = static_cast<float>(all[static_cast<std::size_t>(comm.rank())][i]);
      const float rate = falling_rate(0.02F, s, 200);
      adam.step({&weights, 1}, {&gradients, 1}, rate);
      oracle.step(expected_kind(s), all, static_cast<double>(rate));
      for (std::size_t i = 0; i < count; ++i) {
        ASSERT_NEAR(w[i], oracle.ranks[static_cast<std::size_t>(comm.rank())].w[i], 2e-4)
            << "step " << s << " at " << i;
      }
    }
  });
}

TEST_P(ZeroOne, ConvergesLikeDenseAdam) {
  run([](Communicator& comm) {
    constexpr unsigned kSteps = 300;
    const auto rate = [](unsigned s) { return falling_rate(0.02F, s, kSteps); };
    NoisyModel dense(comm);
    {
      HookOptions plain;
      plain.compressor = "none";
      plain.rule = "onebit_adam(40,beta2=0.95)";
      plain.timeout = std::chrono::seconds(50);
      plain.library_thread = comm.transport().info().any_thread;
      GradientHook hook(comm, dense.params, plain);
      for (unsigned s = 1; s <= kSteps; ++s) {
        dense.step(hook, s);
        dense.descend(rate(s));
      }
    }
    NoisyModel model(comm);
    const double start = model.distance();
    ZeroOneAdamOptions options = small_options();
    options.local_doubling = 80;
    options.most_local_steps = 4;
    ZeroOneAdam adam(comm, model.params, options);
    std::uint64_t wire = 0;
    std::uint64_t of_dense = 0;
    for (unsigned s = 1; s <= kSteps; ++s) {
      const ZeroOneStep made = step(adam, model, s, rate(s));
      if (s <= 40) continue;
      wire += made.wire_bytes;
      of_dense += made.dense_bytes;
    }
    adam.synchronise(model.tensors(model.weights));
    EXPECT_TRUE(model.equal_on_all_ranks(comm));
    EXPECT_LT(model.distance(), start / 3);
    EXPECT_LT(model.distance(), 1.8 * dense.distance());
    if (comm.size() > 1) {
      EXPECT_LT(40 * wire, of_dense) << "one bit, and not in every step";
    }
  });
}

/// An exchange ahead of its time; a second one sends nothing and changes nothing.
TEST_P(ZeroOne, SynchronisesOnRequest) {
  run([](Communicator& comm) {
    NoisyModel model(comm);
    ZeroOneAdam adam(comm, model.params, small_options());
    for (unsigned s = 1; s <= 90; ++s) step(adam, model, s, 0.01F);
    ASSERT_FALSE(adam.synchronised());
    adam.synchronise(model.tensors(model.weights));
    EXPECT_TRUE(adam.synchronised());
    EXPECT_TRUE(model.equal_on_all_ranks(comm));
    const auto weights = model.weights;
    adam.synchronise(model.tensors(model.weights));
    EXPECT_EQ(model.weights, weights);
    for (unsigned s = 91; s <= 96; ++s) step(adam, model, s, 0.01F);
    EXPECT_TRUE(adam.synchronised());
    EXPECT_TRUE(model.equal_on_all_ranks(comm));
  });
}

/// Momenta that overflow: all ranks are back where they last met, and go on.
TEST_P(ZeroOne, AnExchangeThatOverflowsIsUndone) {
  run([](Communicator& comm) {
    NoisyModel model(comm);
    ZeroOneAdam adam(comm, model.params, small_options());
    for (unsigned s = 1; s <= 88; ++s) step(adam, model, s, 0.01F);
    const auto met = model.weights;
    bool undone = false;
    for (unsigned s = 89; s <= 96; ++s) {
      model.compute_gradients(s);
      if (comm.rank() == comm.size() - 1) std::fill(model.gradients[0].begin(), model.gradients[0].end(), 3e38F);
      const ZeroOneStep made = adam.step(model.tensors(model.weights), model.tensors(model.gradients), 100.0F);
      undone = undone || made.undone;
    }
    EXPECT_TRUE(undone);
    EXPECT_TRUE(adam.synchronised());
    EXPECT_EQ(model.weights, met);
    for (unsigned s = 97; s <= 104; ++s) EXPECT_FALSE(step(adam, model, s, 0.01F).undone);
    EXPECT_TRUE(model.equal_on_all_ranks(comm));
    EXPECT_NE(model.weights, met);
  });
}

TEST_P(ZeroOne, LearningRatesThatDifferAreNamed) {
  run([](Communicator& comm) {
    if (!is_checked(comm)) return;
    NoisyModel model(comm);
    ZeroOneAdam adam(comm, model.params, small_options());
    const Outcome outcome = outcome_of([&] { step(adam, model, 1, comm.rank() == 0 ? 0.01F : 0.02F); });
    EXPECT_EQ(outcome.code, Errc::rank_mismatch);
    EXPECT_THAT(outcome.message, HasSubstr("learning rate"));
  });
}

/// Elements that never had a gradient stay, bit for bit, under codes that cannot say 0.
TEST_P(ZeroOne, UnusedElementsStay) {
  run([](Communicator& comm) {
    NoisyModel model(comm);
    std::fill(model.weights[0].begin(), model.weights[0].end(), 0.25F);
    ZeroOneAdam adam(comm, model.params, small_options());
    for (unsigned s = 1; s <= 96; ++s) {
      model.compute_gradients(s);
      std::fill(model.gradients[0].begin() + 100, model.gradients[0].begin() + 300, 0.0F);
      adam.step(model.tensors(model.weights), model.tensors(model.gradients), 0.01F);
    }
    for (std::size_t i = 0; i < model.weights[0].size(); ++i) {
      ASSERT_EQ(model.weights[0][i] == 0.25F, i >= 100 && i < 300) << i;
    }
  });
}

/// NaN on one rank: before the freeze no rank moves; in a local step that rank does not, and the exchange is sound.
TEST_P(ZeroOne, NonFiniteGradientsAreDropped) {
  run([](Communicator& comm) {
    NoisyModel model(comm);
    ZeroOneAdam adam(comm, model.params, small_options());
    const bool mine = comm.rank() == comm.size() - 1;
    for (unsigned s = 1; s <= 96; ++s) {
      model.compute_gradients(s);
      const bool bad = s == 2 || s == 5 || s == 90;  // variance, gradient, local
      if (bad && mine) model.gradients[2][7] = std::numeric_limits<float>::quiet_NaN();
      const auto before = model.weights;
      const ZeroOneStep made = adam.step(model.tensors(model.weights), model.tensors(model.gradients), 0.01F);
      EXPECT_EQ(made.skipped, bad && (mine || s < 40)) << s;
      EXPECT_EQ(model.weights == before, made.skipped) << s;
    }
    EXPECT_TRUE(model.equal_on_all_ranks(comm));
    for (const auto& each : model.weights) {
      for (const float w : each) ASSERT_TRUE(std::isfinite(w));
    }
  });
}

TEST_P(ZeroOne, MisuseIsNamed) {
  run([](Communicator& comm) {
    NoisyModel model(comm);
    const auto refused = [&](const std::function<void(std::vector<ParamInfo>&, ZeroOneAdamOptions&)>& change) {
      std::vector<ParamInfo> params = model.params;
      ZeroOneAdamOptions options = small_options();
      change(params, options);
      const Outcome outcome = outcome_of([&] { ZeroOneAdam adam(comm, params, options); });
      EXPECT_EQ(outcome.code, Errc::invalid_argument);
      return outcome.message;
    };
    EXPECT_THAT(refused([](auto& params, auto&) { params[1].rule = "ef"; }), HasSubstr("'w1' has the rule ef"));
    EXPECT_THAT(refused([](auto& params, auto&) { params[1].dtype = DType::f16; }), HasSubstr("'w1' is f16"));
    EXPECT_THAT(refused([](auto&, auto& o) { o.compressor = "sign+ef"; }), HasSubstr("sign+ef"));
    EXPECT_THAT(refused([](auto&, auto& o) { o.beta1 = 2; }), HasSubstr("beta1"));
    EXPECT_THAT(refused([](auto&, auto& o) { o.freeze = 0; }), HasSubstr("freeze 0"));
    EXPECT_THAT(refused([](auto&, auto& o) { o.epsilon = 0; }), HasSubstr("epsilon"));
    if (comm.size() > 1) {
      ZeroOneAdamOptions options = small_options();
      if (comm.rank() == 1) options.freeze = 41;
      const Outcome outcome = outcome_of([&] { ZeroOneAdam adam(comm, model.params, options); });
      EXPECT_EQ(outcome.code, Errc::rank_mismatch);
      EXPECT_THAT(outcome.message, HasSubstr("freeze 41"));
    }
    ZeroOneAdam adam(comm, model.params, small_options());
    EXPECT_THAT(outcome_of([&] { GradientHook hook(comm, model.params); }).message, HasSubstr("a ZeroOneAdam"));
    const std::vector<Tensor> weights = model.tensors(model.weights);
    std::vector<Tensor> gradients = model.tensors(model.gradients);
    EXPECT_THAT(outcome_of([&] { adam.step(weights, gradients, -1); }).message, HasSubstr("given -1"));
    gradients[2].count = 3;
    EXPECT_THAT(outcome_of([&] { adam.step(weights, gradients, 1); }).message,
                HasSubstr("gradients of parameter 'w2'"));
    gradients.pop_back();
    EXPECT_THAT(outcome_of([&] { adam.step(weights, gradients, 1); }).message, HasSubstr("2 gradients"));
    EXPECT_EQ(adam.steps(), 0u);
    EXPECT_FALSE(step(adam, model, 1, 0.01F).skipped) << "none of it did harm";
  });
}

}  // namespace
}  // namespace gradwire::test
