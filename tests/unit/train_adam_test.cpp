// 1-bit Adam's rule against its equations in double, and what its freeze makes of the schedule.
#include <gmock/gmock.h>

#include <cmath>
#include <map>

#include "base/fail.hpp"
#include "train/buckets.hpp"
#include "train/schedule.hpp"
#include "unit/compress_support.hpp"

#include "gradwire/feedback.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

constexpr std::size_t kCount = 700;
constexpr std::size_t kRanks = 3;
constexpr double kBeta1 = 0.8;
constexpr double kBeta2 = 0.95;
constexpr const char* kRule = "onebit_adam(freeze=5,beta1=0.8,beta2=0.95,eps=1e-6)";

struct Rank {
  std::unique_ptr<FeedbackRule> rule;
  Floats x = Floats(kCount);
  Floats residual = Floats(kCount);  // of the last step, as the compressor left it
};

std::vector<Rank> make_ranks(const std::string& spec, bool dense = false) {
  std::vector<Rank> ranks(kRanks);
  for (Rank& rank : ranks) rank.rule = make_rule(spec, {kCount, static_cast<int>(kRanks), dense});
  return ranks;
}

Floats state(const Rank& rank, const std::string& name) {
  for (const NamedState& named : rank.rule->state()) {
    if (named.name != name) continue;
    Floats values(named.values->count());
    named.values->read(values.data());
    return values;
  }
  ADD_FAILURE() << "no state " << name;
  return {};
}

std::map<std::string, Floats> all_state(const Rank& rank) {
  std::map<std::string, Floats> all;
  for (const NamedState& named : rank.rule->state()) all[named.name] = state(rank, named.name);
  return all;
}

/// Different on every rank and in every step; the last ten elements never have a gradient.
std::vector<Floats> gradients_of(unsigned step, float factor = 1) {
  std::vector<Floats> all;
  for (std::size_t rank = 0; rank < kRanks; ++rank) {
    all.push_back(normal_gradients(kCount, 100 * step + static_cast<unsigned>(rank) + 1));
    std::fill(all.back().end() - 10, all.back().end(), 0.0F);
    for (float& g : all.back()) g *= factor;
  }
  return all;
}

/// One step of all ranks; null compressor: nothing is lost. Returns the update, the same on all of them.
Floats run_step(std::vector<Rank>& ranks, const std::vector<Floats>& gradients, const Compressor* compressor,
                float scale = 1.0F / kRanks, bool commit = true) {
  Floats sum(kCount);
  for (std::size_t r = 0; r < kRanks; ++r) {
    Rank& rank = ranks[r];
    const Tensor x{rank.x.data(), kCount};
    rank.rule->compensate({gradients[r].data(), kCount}, scale, x, StreamRef::host());
    const Tensor residual = rank.rule->residual({});
    Floats sent = rank.x;
    if (compressor != nullptr) {
      std::vector<std::byte> frame(compressor->max_frame_size(kCount, DType::f32));
      const std::size_t size = compressor->encode(x, {frame.data(), frame.size()}, residual, {});
      compressor->decode({frame.data(), size}, {sent.data(), kCount}, Write::assign);
    } else if (residual.data != nullptr) {
      std::fill_n(static_cast<float*>(residual.data), kCount, 0.0F);
    }
    if (residual.data != nullptr) {
      const auto* const r_i = static_cast<const float*>(residual.data);
      rank.residual.assign(r_i, r_i + kCount);
    }
    for (std::size_t i = 0; i < kCount; ++i) sum[i] += sent[i];
  }
  Floats update;
  for (Rank& rank : ranks) {
    Floats mine = sum;
    rank.rule->absorb({mine.data(), kCount}, {}, StreamRef::host());
    if (update.empty()) update = mine;
    EXPECT_EQ(mine, update) << "the update differs between ranks";
    if (commit) rank.rule->commit();
  }
  return update;
}

void expect_near(const Floats& actual, const Doubles& expected, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(actual[i]), expected[i], 2e-5 * (1 + std::abs(expected[i])))
        << what << ", element " << i;
  }
}

/// Adam in double; v learns while `learns`.
struct Oracle {
  Doubles m = Doubles(kCount);
  Doubles v = Doubles(kCount);

  [[nodiscard]] Doubles direction() const {
    Doubles update(kCount);
    for (std::size_t i = 0; i < kCount; ++i) update[i] = m[i] / (std::sqrt(v[i]) + 1e-6);
    return update;
  }
  Doubles step(const std::vector<Floats>& gradients, double scale, bool learns) {
    for (std::size_t i = 0; i < kCount; ++i) {
      double g = 0;
      for (const Floats& gradient : gradients) g += scale * static_cast<double>(gradient[i]);
      m[i] = kBeta1 * m[i] + (1 - kBeta1) * g;
      if (learns) v[i] = kBeta2 * v[i] + (1 - kBeta2) * g * g;
    }
    return direction();
  }
};

/// Where nothing is lost both forms of the rule are Adam on the mean (or sum), whose v freezes.
TEST(OneBitAdam, IsAdamWhereNothingIsLost) {
  for (const bool dense : {false, true}) {
    for (const float scale : {1.0F / kRanks, 1.0F}) {
      std::vector<Rank> ranks = make_ranks(kRule, dense);
      Oracle oracle;
      for (unsigned step = 0; step < 12; ++step) {
        EXPECT_EQ(ranks[0].rule->dense_steps_left(), dense || step > 5 ? 0 : 5 - step);
        const std::vector<Floats> gradients = gradients_of(step);
        const Floats update = run_step(ranks, gradients, nullptr, scale);
        const Doubles expected = oracle.step(gradients, static_cast<double>(scale), step < 5);
        expect_near(update, expected, fmt::format("update of step {}, scale {}, dense {}", step, scale, dense));
        expect_near(state(ranks[1], "momentum"), oracle.m, "momentum");
        expect_near(state(ranks[1], "variance"), oracle.v, "variance");
        EXPECT_EQ(state(ranks[2], "variance steps"), Floats{static_cast<float>(std::min(step + 1, 5u))});
      }
    }
  }
}

/// Under one bit: x is this rank's part of the momentum and what it owes; the momentum is what arrived; over all ranks
/// and steps what was not delivered is what is owed.
TEST(OneBitAdam, MomentaTravelWithFeedback) {
  const Compressor sign = make_compressor("sign");
  for (const float scale : {1.0F / kRanks, 1.0F}) {
    std::vector<Rank> ranks = make_ranks(kRule);
    Oracle oracle;
    for (unsigned step = 0; step < 5; ++step) {
      oracle.step(gradients_of(step), static_cast<double>(scale), true);
      run_step(ranks, gradients_of(step), nullptr, scale);
    }
    for (unsigned step = 5; step < 25; ++step) {
      const std::vector<Floats> gradients = gradients_of(step);
      const std::vector<Rank>& before = ranks;
      std::vector<Floats> owed;
      for (const Rank& rank : before) owed.push_back(state(rank, "residual"));
      Doubles exact = oracle.m;  // of the momentum that would be without loss in this step
      const Doubles m = oracle.m;
      const Floats update = run_step(ranks, gradients, &sign, scale);
      for (std::size_t i = 0; i < kCount; ++i) exact[i] *= kBeta1;
      for (std::size_t r = 0; r < kRanks; ++r) {
        Doubles x(kCount);
        for (std::size_t i = 0; i < kCount; ++i) {
          const double own = (1 - kBeta1) * static_cast<double>(scale) * static_cast<double>(gradients[r][i]) +
                             static_cast<double>(owed[r][i]);
          x[i] = kBeta1 * m[i] / kRanks + own;
          exact[i] += own;
        }
        expect_near(ranks[r].x, x, fmt::format("x of rank {} in step {}", r, step));
      }
      for (std::size_t i = 0; i < kCount; ++i) {
        oracle.m[i] = exact[i];
        for (const Rank& rank : ranks) oracle.m[i] -= static_cast<double>(rank.residual[i]);
        if (oracle.v[i] == 0) oracle.m[i] = 0;
      }
      expect_near(state(ranks[0], "momentum"), oracle.m, "momentum");
      expect_near(state(ranks[0], "variance"), oracle.v, "the variance is frozen");
      expect_near(update, oracle.direction(), "update");
      for (const Rank& rank : ranks) {
        Floats expected = rank.residual;
        std::fill(expected.end() - 10, expected.end(), 0.0F);
        EXPECT_EQ(state(rank, "residual"), expected);
      }
      for (std::size_t i = 0; i < kCount; ++i) oracle.m[i] = static_cast<double>(state(ranks[0], "momentum")[i]);
    }
  }
}

/// One bit cannot say 0: an element that had no gradient while v learned stays where it is, and owes nothing.
TEST(OneBitAdam, ElementsWithoutVarianceStay) {
  const Compressor sign = make_compressor("sign");
  std::vector<Rank> ranks = make_ranks(kRule);
  for (unsigned step = 0; step < 5; ++step) run_step(ranks, gradients_of(step), nullptr);
  for (unsigned step = 5; step < 15; ++step) {
    std::vector<Floats> gradients = gradients_of(step);
    if (step > 9) gradients[1].back() = 3;  // too late
    const Floats update = run_step(ranks, gradients, &sign);
    EXPECT_NE(ranks[0].residual.back(), 0) << "the code made something of nothing";
    for (std::size_t i = 0; i < kCount; ++i) {
      const bool used = i + 10 < kCount;
      ASSERT_EQ(update[i] != 0, used) << i;
      ASSERT_EQ(state(ranks[2], "momentum")[i] != 0, used) << i;
      if (!used) {
        ASSERT_EQ(state(ranks[2], "residual")[i], 0) << i;
      }
    }
  }
}

/// Gradients four times as large make state 4^degree times as large, bit for bit, and the same updates.
TEST(OneBitAdam, StateFollowsTheGradientsScaleByItsDegree) {
  const Compressor sign = make_compressor("sign");
  for (const bool dense : {false, true}) {
    const char* const rule = "onebit_adam(5,eps=1e-30)";
    std::vector<Rank> small = make_ranks(rule, dense);
    std::vector<Rank> large = make_ranks(rule, dense);
    for (unsigned step = 0; step < 9; ++step) {
      const Compressor* const compressor = step < 5 || dense ? nullptr : &sign;
      const Floats update = run_step(small, gradients_of(step), compressor);
      const Floats same = run_step(large, gradients_of(step, 4), compressor);
      for (std::size_t i = 0; i + 10 < kCount; ++i) ASSERT_EQ(update[i], same[i]) << "step " << step;
    }
    std::map<std::string, int> degrees;
    for (const NamedState& named : small[0].rule->state()) {
      degrees[named.name] = named.degree;
      Floats expected = state(small[0], named.name);
      for (float& value : expected) value *= std::pow(4.0F, static_cast<float>(named.degree));
      EXPECT_EQ(state(large[0], named.name), expected) << named.name;
    }
    std::map<std::string, int> expected{{"momentum", 1}, {"variance", 2}, {"variance steps", 0}};
    if (!dense) expected["residual"] = 1;
    EXPECT_EQ(degrees, expected);
  }
}

TEST(OneBitAdam, OnlyCommitChangesState) {
  const Compressor sign = make_compressor("sign");
  for (const bool dense : {false, true}) {
    std::vector<Rank> straight = make_ranks(kRule, dense);
    std::vector<Rank> disturbed = make_ranks(kRule, dense);
    for (unsigned step = 0; step < 10; ++step) {
      const Compressor* const compressor = step < 5 || dense ? nullptr : &sign;
      run_step(disturbed, gradients_of(step + 50), compressor, 1.0F / kRanks, false);
      ASSERT_EQ(all_state(disturbed[1]), all_state(straight[1])) << step;
      ASSERT_EQ(run_step(disturbed, gradients_of(step), compressor), run_step(straight, gradients_of(step), compressor))
          << step;
      ASSERT_EQ(all_state(disturbed[1]), all_state(straight[1])) << step;
    }
  }
}

std::string complaint(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument);
    return error.what();
  }
  return "none";
}

TEST(OneBitAdam, WrongOptionsAreRefused) {
  const auto refused = [](const std::string& spec) { return complaint([&] { (void)make_rule(spec, {}); }); };
  EXPECT_THAT(refused("onebit_adam(0)"), HasSubstr("option freeze is 0"));
  EXPECT_THAT(refused("onebit_adam(freeze=16777217)"), HasSubstr("option freeze is 16777217"));
  EXPECT_THAT(refused("onebit_adam(5,beta1=1.5)"), HasSubstr("option beta1 is 1.5"));
  EXPECT_THAT(refused("onebit_adam(5,beta2=-1)"), HasSubstr("option beta2 is -1"));
  EXPECT_THAT(refused("onebit_adam(5,eps=0)"), HasSubstr("option eps is 0"));
  EXPECT_THAT(refused("onebit_adam(5,warmup=3)"), HasSubstr("unknown option warmup"));
  EXPECT_EQ(refused("onebit_adam"), "none");
}

/// The rule's dense steps are the schedule's, wherever the rule is named.
TEST(OneBitAdam, FreezeIsAScheduleOfDenseSteps) {
  EXPECT_EQ(parse_scheme("sign+onebit_adam(7)").schedule.dense_steps, 7u);
  EXPECT_EQ(parse_scheme("sign+onebit_adam(7)+ramp(q4,steps=2)").schedule.stages.back().first, 9u);
  for (const char* const text : {"sign+onebit_adam(7)+warmup(3)", "sign+warmup(7)+onebit_adam(7)"}) {
    EXPECT_THAT(complaint([&] { (void)parse_scheme(text); }),
                HasSubstr("its first 7 steps are dense, and the scheme has another warmup"));
  }
  const std::vector<ParamInfo> params{{ParamId{1}, "w", {64, 64}}, {ParamId{2}, "b", {64}}};
  HookOptions options;
  options.compressor = "sign";
  options.rule = "onebit_adam(9)";
  const std::vector<ParamPlan> plans = plan_params(params, options);
  EXPECT_EQ(plans[0].schedule.dense_steps, 9u);
  EXPECT_THAT(plans[0].text(), HasSubstr("9 dense steps first"));
  EXPECT_TRUE(plans[1].always_dense);
  EXPECT_EQ(plans[1].rule, "onebit_adam(9)") << "its moments are kept there too";
}

/// As is the ramp of dgc's warmup.
TEST(OneBitAdam, SoIsTheWarmupOfARuleInTheOptions) {
  HookOptions options;
  options.compressor = "topk(0.001)";
  options.rule = "dgc(0.9,warmup=10)";
  const std::vector<ParamInfo> params{{ParamId{1}, "w", {64, 64}}, {ParamId{2}, "n", {64, 64}, DType::f32, "none"}};
  const std::vector<ParamPlan> plans = plan_params(params, options);
  ASSERT_EQ(plans[0].schedule.stages.size(), 5u);
  EXPECT_EQ(plans[0].schedule.stages[4].first, 40u);
  EXPECT_TRUE(plans[1].always_dense) << "nothing to ramp";
}

}  // namespace
}  // namespace gradwire::testing
