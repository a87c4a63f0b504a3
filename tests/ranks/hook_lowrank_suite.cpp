// Low rank in training: feedback over it, fallbacks, and buckets of one family each.
#include "ranks/hook_suite.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;

class HookLowRank : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, HookLowRank, ::testing::ValuesIn(worlds()), world_name);

HookOptions options_for(const Communicator& comm, const std::string& compressor, const std::string& rule = "ef") {
  HookOptions options = toy_options();
  options.compressor = compressor;
  options.rule = rule;
  options.library_thread = comm.transport().info().any_thread;
  return options;
}

double distance_after(Communicator& comm, const HookOptions& options, unsigned steps) {
  ToyModel model(comm);
  GradientHook hook(comm, model.params, options);
  for (unsigned step = 0; step < steps; ++step) {
    model.step(hook, step).wait(patience());
    model.descend(0.05F);
  }
  return model.distance();
}

/// Targets are noise, of full rank: four of forty directions a step, and feedback brings the others in time.
TEST_P(HookLowRank, FollowsTheDenseRun) {
  run([](Communicator& comm) {
    const double start = distance_after(comm, options_for(comm, "none"), 0);
    const double dense = distance_after(comm, options_for(comm, "none"), 200);
    EXPECT_LT(dense, 0.01 * start);
    for (const char* spec : {"powersgd(rank=4)", "powersgd(rank=4,rounds=1)", "powersgd(rank=4,factors=f16,start=10)",
                             "projection(rank=4,refresh=2)"}) {
      const double with = distance_after(comm, options_for(comm, spec), 200);
      EXPECT_LT(with, dense + 0.1 * start) << spec;
    }
    const double without = distance_after(comm, options_for(comm, "projection(rank=4,refresh=1000)", "none"), 200);
    EXPECT_GT(without, 0.3 * start) << "one basis for good, and no feedback";
  });
}

std::string bits_of(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

/// Families and schedules in turn, so that every parameter is in another bucket than its neighbours.
TEST_P(HookLowRank, BucketsHoldOneFamilyEach) {
  run([](Communicator& comm) {
    for (const char* algorithm : {"auto", "ring", "lowrank"}) {
      ToyModel model(comm);
      std::vector<ParamInfo> params = model.params;
      params[0].compressor = "powersgd(rank=2)";
      params[2].compressor = "q4";
      params[4].compressor = "powersgd(rank=2,rounds=1)";
      params[5].compressor = "powersgd(rank=2)";  // a vector: its fallback
      HookOptions options = options_for(comm, "powersgd(rank=2)");
      options.algorithm = algorithm;
      GradientHook hook(comm, params, options);
      EXPECT_GE(hook.bucket_count(), 4u);
      for (unsigned step = 0; step < 5; ++step) {
        model.step(hook, step).wait(patience());
        model.descend(0.3F);
      }
      std::vector<Agreement> bits;
      for (std::size_t p = 0; p < params.size(); ++p) bits.push_back({params[p].name, bits_of(model.weights[p])});
      EXPECT_NO_THROW(comm.agree(bits, patience())) << algorithm;
    }
  });
}

TEST_P(HookLowRank, ReportsTheFallback) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    std::vector<ParamInfo> params = model.params;
    params[1].compressor = "powersgd(rank=1,fallback=q8)";      // 40 elements: no matrix
    params[2].compressor = "powersgd(rank=20,fallback=bf16)";   // 50 x 70: 2 * 20 * 120 > 3500
    params[4].compressor = "powersgd(rank=2,fallback=none)";    // 128 x 32
    params[5].compressor = "projection(rank=1,fallback=none)";  // a vector
    GradientHook hook(comm, params, options_for(comm, "powersgd(rank=4)"));
    model.step(hook, 0).wait(patience());
    const StepReport report = hook.report();
    EXPECT_THAT(report.params[0].compressor, HasSubstr("powersgd(rank=4"));
    EXPECT_THAT(report.params[1].compressor, HasSubstr("quantize(bits=8"));
    EXPECT_EQ(report.params[2].compressor, "bf16");
    EXPECT_EQ(report.params[3].compressor, "dense") << "21 elements are under the threshold";
    EXPECT_THAT(report.params[4].compressor, HasSubstr("powersgd(rank=2"));
    EXPECT_EQ(report.params[4].rule, "ef");
    EXPECT_EQ(report.params[5].compressor, "dense");
    EXPECT_GT(report.params[0].residual_norm, 0);
  });
}

TEST_P(HookLowRank, DenseAndLowRankExcludeEachOther) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    HookOptions options = options_for(comm, "powersgd(rank=2)");
    options.algorithm = "dense";
    const Outcome outcome = outcome_of([&] { GradientHook(comm, model.params, options); });
    EXPECT_EQ(outcome.code, Errc::unsupported);
    EXPECT_THAT(outcome.message, HasSubstr("algorithm 'dense' cannot carry"));
  });
}

TEST_P(HookLowRank, ANonFiniteStepLeavesNoTrace) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    HookOptions options = options_for(comm, "powersgd(rank=4)");
    options.non_finite = NonFinite::error;
    GradientHook hook(comm, model.params, options);
    for (unsigned step = 0; step < 12; ++step) {
      for (std::size_t p = model.params.size(); p-- > 0;) {
        model.compute_gradient(p);
        if (step % 3 == 1 && p == 2 && comm.rank() == 0) model.gradients[p][100] = std::nanf("");
        hook.ready(model.id(p), model.gradient(p));
      }
      const Outcome outcome = outcome_of([&] { hook.finish_step().wait(patience()); });
      EXPECT_EQ(outcome.code, step % 3 == 1 ? Errc::non_finite : Errc::ok);
      if (outcome.code == Errc::ok) model.descend(0.3F);
    }
    std::vector<Agreement> bits;
    for (std::size_t p = 0; p < model.weights.size(); ++p) bits.push_back({"w", bits_of(model.weights[p])});
    EXPECT_NO_THROW(comm.agree(bits, patience()));
  });
}

}  // namespace
}  // namespace gradwire::test
