// The hook in training: what it computes, reports and holds.
#include "ranks/hook_suite.hpp"

#include "base/half.hpp"

namespace gradwire::test {
namespace {

class Hook : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, Hook, ::testing::ValuesIn(worlds()), world_name);

bool may_use_threads(const Communicator& comm) { return comm.transport().info().any_thread; }

HookOptions options_for(const Communicator& comm, const std::string& compressor, const std::string& rule = "ef") {
  HookOptions options = toy_options();
  options.compressor = compressor;
  options.rule = rule;
  options.library_thread = may_use_threads(comm);
  return options;
}

/// Dense training equals one process that averages all ranks' gradients, up to the order of the sum.
TEST_P(Hook, DenseMatchesOneProcess) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, options_for(comm, "none"));
    std::vector<std::vector<float>> expected = model.weights;
    for (unsigned step = 0; step < 5; ++step) {
      wait(model.step(hook, step));
      model.descend(0.5F);
      for (std::size_t p = 0; p < expected.size(); ++p) {
        for (std::size_t i = 0; i < expected[p].size(); ++i) {
          expected[p][i] -= 0.5F * (expected[p][i] - model.optimum(p, i));
        }
      }
    }
    for (std::size_t p = 0; p < expected.size(); ++p) {
      for (std::size_t i = 0; i < expected[p].size(); ++i) {
        ASSERT_NEAR(model.weights[p][i], expected[p][i], 1e-5F) << "parameter " << p << " element " << i;
      }
    }
    EXPECT_EQ(hook.report().step, 5u);
    EXPECT_EQ(hook.state_bytes(), 0u);
  });
}

/// With feedback, compressed training ends in a small ball around the optimum (radius about 40 at the start); without,
/// what rounding drops is gone for good, and it stays farther away.
TEST_P(Hook, ErrorFeedbackConverges) {
  run([](Communicator& comm) {
    const auto distance_after = [&](const std::string& compressor, const std::string& rule) {
      ToyModel model(comm);
      GradientHook hook(comm, model.params, options_for(comm, compressor, rule));
      for (unsigned step = 0; step < 150; ++step) {
        wait(model.step(hook, step));
        model.descend(0.1F);
      }
      return model.distance();
    };
    const double fine = distance_after("q4", "ef");
    const double with = distance_after("q2", "ef");
    const double without = distance_after("q2", "none");
    EXPECT_LT(fine, 1.5);
    EXPECT_LT(with, 6.0);
    if (comm.size() == 1) return;
    EXPECT_LT(with, 0.7 * without) << "without feedback: " << without;
  });
}

TEST_P(Hook, UpdatesAreEqualOnAllRanks) {
  run([](Communicator& comm) {
    for (const char* algorithm : {"auto", "scatter_reduce", "ring", "gather_sum"}) {
      ToyModel model(comm);
      HookOptions options = options_for(comm, "q4(round=stochastic)");
      options.algorithm = algorithm;
      GradientHook hook(comm, model.params, options);
      EXPECT_GT(hook.bucket_count(), 2u);
      for (unsigned step = 0; step < 4; ++step) {
        wait(model.step(hook, step));
        model.descend(0.3F);
      }
      std::vector<Agreement> bits;
      for (std::size_t p = 0; p < model.weights.size(); ++p) {
        bits.push_back({model.params[p].name, std::string(reinterpret_cast<const char*>(model.weights[p].data()),
                                                          model.weights[p].size() * sizeof(float))});
      }
      EXPECT_NO_THROW(comm.agree(bits, patience())) << algorithm;
    }
  });
}

TEST_P(Hook, CallerMayDrive) {
  run([](Communicator& comm) {
    const auto train = [&](bool library_thread) {
      ToyModel model(comm);
      HookOptions options = options_for(comm, "q4");
      options.library_thread = library_thread;
      GradientHook hook(comm, model.params, options);
      for (unsigned step = 0; step < 3; ++step) {
        const Work work = model.step(hook, step);
        if (!library_thread) {
          while (!work.done()) hook.progress();
        }
        wait(work);
        model.descend(0.3F);
      }
      return model.weights;
    };
    EXPECT_EQ(train(false), train(may_use_threads(comm)));
  });
}

TEST_P(Hook, SixteenBitGradientsKeepTheirLossInF32) {
  run([](Communicator& comm) {
    for (const DType dtype : {DType::f16, DType::bf16}) {
      std::vector<ParamInfo> params{{ParamId{1}, "w", {60, 50}, dtype, {}, {}}, {ParamId{2}, "b", {5}, dtype, {}, {}}};
      GradientHook hook(comm, params, options_for(comm, "q4"));
      std::vector<std::uint16_t> w(3000);
      std::vector<std::uint16_t> b(16);  // five are used
      double delivered = 0;
      double given = 0;
      for (int step = 0; step < 60; ++step) {
        for (std::size_t i = 0; i < w.size(); ++i) {
          store_f32(w.data(), dtype, i, std::sin(static_cast<float>(i)) * 0.25F + 0.01F);
        }
        for (std::size_t i = 0; i < 5; ++i) store_f32(b.data(), dtype, i, 0.5F);
        given += load_f32(w.data(), dtype, 0);
        hook.ready(ParamId{2}, {b.data(), 5, dtype, Space::host});
        hook.ready(ParamId{1}, {w.data(), 3000, dtype, Space::host});
        wait(hook.finish_step());
        delivered += load_f32(w.data(), dtype, 0);
        ASSERT_EQ(load_f32(b.data(), dtype, 4), 0.5F);
      }
      // All ranks gave the same, far below one 4-bit level; feedback delivers it in the long run.
      EXPECT_NEAR(delivered, given, 0.1) << name(dtype);
    }
  });
}

TEST_P(Hook, ReportsBytesTimesAndNorms) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    GradientHook hook(comm, model.params, options_for(comm, "q4"));
    wait(model.step(hook, 0));
    const StepReport report = hook.report();
    const auto n = static_cast<std::uint64_t>(comm.size());
    std::uint64_t dense = 0;
    for (const auto& gradient : model.gradients) dense += 2 * (n - 1) * gradient.size() * sizeof(float) / n;
    EXPECT_EQ(report.dense_bytes, dense);
    ASSERT_EQ(report.params.size(), model.params.size());
    EXPECT_EQ(report.params[1].compressor, "dense");
    EXPECT_EQ(report.params[3].compressor, "dense") << "21 elements are under the threshold";
    EXPECT_EQ(report.params[0].compressor, "quantize(bits=4,bucket=512,norm=linf,round=nearest)");
    EXPECT_EQ(report.params[0].rule, "ef");
    EXPECT_GT(report.params[0].residual_norm, 0);
    EXPECT_EQ(report.params[1].residual_norm, 0);
    EXPECT_GT(report.encode_us, 0);
    EXPECT_GT(report.decode_us, 0);
    EXPECT_GT(report.exposed_us, 0);
    if (n == 1) return;
    EXPECT_LT(report.wire_bytes, dense / 4);
    EXPECT_GT(report.wire_bytes, dense / 9);
  });
}

TEST_P(Hook, WorkspaceIsKnownBeforehandAndBounded) {
  run([](Communicator& comm) {
    for (const char* compressor : {"q2", "q4", "q8", "f16", "none"}) {
      for (const char* algorithm : {"auto", "scatter_reduce", "ring", "gather_sum"}) {
        for (const DType dtype : {DType::f32, DType::bf16}) {
          std::vector<ParamInfo> params;
          for (std::uint32_t i = 0; i < 6; ++i) {
            params.push_back({ParamId{i}, fmt::format("w{}", i), {512, 1024}, dtype, {}, {}});
          }
          HookOptions options = options_for(comm, compressor);
          options.algorithm = algorithm;
          const GradientHook hook(comm, params, options);
          const std::size_t bucket = 4u << 20;  // two of the parameters
          EXPECT_LE(hook.workspace_bytes(), 2 * bucket) << compressor << " " << algorithm << " " << name(dtype);
          EXPECT_GT(hook.workspace_bytes(), 0u);
          const bool dense = std::string(compressor) == "none" && std::string(algorithm) == "auto";
          EXPECT_EQ(hook.state_bytes(), dense ? 0u : 6u * 512 * 1024 * 8);
        }
      }
    }
  });
}

}  // namespace
}  // namespace gradwire::test
