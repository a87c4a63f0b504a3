// Every feedback rule in training: over every kind of compressor, over paths that lose nothing, with 16-bit gradients
// and state, with a loss scale that changes, and over nodes.
#include "base/half.hpp"
#include "ranks/hook_suite.hpp"
#include "support/spawn.hpp"

#include "gradwire/feedback.hpp"

namespace gradwire::test {
namespace {

class HookRules : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, HookRules, ::testing::ValuesIn(worlds()), world_name);

/// Rates that keep momentum 0.9 stable where most of it arrives late.
float rate_for(const std::string& rule, const std::string& compressor) {
  return rule.starts_with("dgc") && compressor.starts_with("topk") ? 0.003F : 0.02F;
}

TEST_P(HookRules, DescendAlikeOnAllRanks) {
  run([](Communicator& comm) {
    for (const RuleInfo& rule : list_rules()) {
      for (const char* compressor : {"q4", "topk(0.05)", "powersgd(rank=4)"}) {
        ToyModel model(comm);
        GradientHook hook(comm, model.params, toy_options(comm, compressor, rule.example));
        const double start = model.distance();
        for (unsigned step = 0; step < 30; ++step) {
          wait(model.step(hook, step));
          model.descend(rate_for(rule.name, compressor));
        }
        const std::string what = rule.example + " over " + compressor;
        expect_equal_on_all_ranks(comm, model.weights, what);
        EXPECT_LT(model.distance(), (rule.name == "none" ? 1.0 : 0.9) * start) << what;  // which forgets most of it
      }
    }
  });
}

/// The gradients of a ToyModel as 16 bits.
class NarrowModel {
 public:
  NarrowModel(const Communicator& comm, DType dtype) : model_(comm), dtype_(dtype) {
    for (ParamInfo& param : model_.params) param.dtype = dtype;
    for (const std::vector<float>& gradient : model_.gradients) narrow_.emplace_back(gradient.size());
  }
  void step(GradientHook& hook, float rate) {
    for (std::size_t p = narrow_.size(); p-- > 0;) {
      model_.compute_gradient(p);
      for (std::size_t i = 0; i < narrow_[p].size(); ++i)
        store_f32(narrow_[p].data(), dtype_, i, model_.gradients[p][i]);
      hook.ready(model_.id(p), {narrow_[p].data(), narrow_[p].size(), dtype_});
    }
    wait(hook.finish_step());
    for (std::size_t p = 0; p < narrow_.size(); ++p) {
      for (std::size_t i = 0; i < narrow_[p].size(); ++i)
        model_.gradients[p][i] = load_f32(narrow_[p].data(), dtype_, i);
    }
    model_.descend(rate);
  }
  [[nodiscard]] const ToyModel& model() const { return model_; }

 private:
  ToyModel model_;
  DType dtype_;
  std::vector<std::vector<std::uint16_t>> narrow_;
};

TEST_P(HookRules, SixteenBitGradientsAndState) {
  run([](Communicator& comm) {
    for (const char* rule : {"ef", "dgc(0.9)", "ef(bf16)", "ef21", "econtrol(0.01,storage=f16)"}) {
      for (const DType dtype : {DType::f16, DType::bf16}) {
        for (const char* compressor : {"q4", "topk(0.05)"}) {
          NarrowModel narrow(comm, dtype);
          GradientHook hook(comm, narrow.model().params, toy_options(comm, compressor, rule));
          const double start = narrow.model().distance();
          for (int step = 0; step < 20; ++step) narrow.step(hook, 2 * rate_for(rule, compressor));
          const std::string what = fmt::format("{} over {} of {}", rule, compressor, name(dtype));
          expect_equal_on_all_ranks(comm, narrow.model().weights, what);
          EXPECT_LT(narrow.model().distance(), 0.9 * start) << what;
        }
      }
    }
  });
}

/// The hook's own memory for rules whose state is stored as something else than f32: still within twice a bucket.
TEST_P(HookRules, StoredStateIsSmaller) {
  run([](Communicator& comm) {
    const std::vector<ParamInfo> params{{ParamId{1}, "w", {512, 1024}, DType::f32, {}, {}}};
    const auto bytes = [&](const char* rule) {
      const GradientHook hook(comm, params, toy_options(comm, "q4", rule));
      EXPECT_LE(hook.workspace_bytes(), 2 * 512u * 1024 * sizeof(float)) << rule;
      return hook.state_bytes();
    };
    EXPECT_EQ(bytes("ef"), 512u * 1024 * 8);
    EXPECT_LT(bytes("ef(bf16)"), 512u * 1024 * 8 * 0.51);
    EXPECT_LT(bytes("ef(q8)"), 512u * 1024 * 8 * 0.26);
  });
}

/// Weights after some steps of training, whose optimiser has this momentum.
ParamValues train(const Communicator& comm, const HookOptions& options, unsigned steps, float rate,
                  float momentum = 0) {
  ToyModel model(comm);
  GradientHook hook(comm, model.params, options);
  ParamValues velocity = model.weights;
  for (unsigned step = 0; step < steps; ++step) {
    wait(model.step(hook, step));
    for (std::size_t p = 0; p < velocity.size(); ++p) {
      for (std::size_t i = 0; i < velocity[p].size(); ++i) {
        velocity[p][i] = momentum * velocity[p][i] + model.gradients[p][i];
        model.weights[p][i] -= rate * velocity[p][i];
      }
    }
  }
  return model.weights;
}

/// Over a compressing algorithm that is given nothing to lose, rules give what dense training gives.
TEST_P(HookRules, WithoutLossTheyAreDense) {
  run([](Communicator& comm) {
    const ParamValues dense = train(comm, toy_options(comm, "none", "none"), 10, 0.1F);
    const ParamValues with_momentum = train(comm, toy_options(comm, "none", "none"), 10, 0.02F, 0.9F);
    for (const char* algorithm : {"scatter_reduce", "gather_sum", "auto"}) {
      const auto through = [&](const char* rule, float rate) {
        HookOptions options = toy_options(comm, "none", rule);
        options.algorithm = algorithm;
        return train(comm, options, 10, rate);
      };
      for (const char* rule : {"none", "ef", "ef(f32)", "ef21", "econtrol(0.01)", "diana(0.1)"})
        expect_near(through(rule, 0.1F), dense, 1e-5F, rule);
      for (const char* rule : {"dgc(0.9)", "dgc(0.9,masking=no)"})
        expect_near(through(rule, 0.02F), with_momentum, 1e-5F, rule);
      expect_near(through("ef21_sgdm(0.1)", 0.2F), with_momentum, 1e-5F,
                  "eta = 0.1 is momentum 0.9 at a tenth of the rate");
    }
  });
}

/// A loss scale that is halved when gradients overflow, every few steps, and doubled in between: rescale() takes the
/// state along, so training follows the run without a scale.
TEST_P(HookRules, FollowALossScaleThatChanges) {
  run([](Communicator& comm) {
    const auto train_scaled = [&](const HookOptions& options, bool scaled) {
      ToyModel model(comm);
      GradientHook hook(comm, model.params, options);
      float scale = scaled ? 1024 : 1;
      unsigned skips = 0;
      for (unsigned step = 0; step < 12;) {
        const bool overflow = scaled && skips < step / 3;
        for (std::size_t p = model.params.size(); p-- > 0;) {
          model.compute_gradient(p);
          for (float& value : model.gradients[p]) value *= scale;
          if (overflow && p == 2 && comm.rank() == 0) model.gradients[p][5] = HUGE_VALF;
          hook.ready(model.id(p), model.gradient(p));
        }
        wait(hook.finish_step());
        EXPECT_EQ(hook.skipped(), overflow);
        const float before = scale;
        if (hook.skipped()) {
          ++skips;
          scale /= 4;
        } else {
          model.descend(0.05F / scale);
          ++step;
          if (scaled && step % 2 == 0) scale *= 2;
        }
        hook.rescale(static_cast<double>(before), static_cast<double>(scale));
      }
      EXPECT_EQ(skips, scaled ? 3u : 0u);
      EXPECT_EQ(hook.report().skipped_steps, skips);
      return model.weights;
    };
    for (const char* rule :
         {"none", "ef", "ef(bf16)", "ef21", "ef21_sgdm(0.1)", "econtrol(0.01)", "dgc(0.9)", "diana(0.1)"}) {
      for (const char* compressor : {"q4", "topk(0.05)"}) {
        const HookOptions options = toy_options(comm, compressor, rule);
        expect_near(train_scaled(options, true), train_scaled(options, false), 1e-4F,
                    fmt::format("{} over {}", rule, compressor));
      }
    }
  });
}

void train_over_nodes(Communicator& comm) {
  const ParamValues dense = train(comm, toy_options(comm, "none", "none"), 40, 0.1F);
  for (const char* inner : {"none", "q8"}) {
    for (const auto& [compressor, rule] : {std::pair("q4", "ef"), std::pair("q4", "ef21"), std::pair("topk(0.3)", "ef"),
                                           std::pair("topk(0.3)", "ef21"), std::pair("powersgd(4)", "ef")}) {
      HookOptions options = toy_options(comm, compressor, rule);
      options.algorithm = "hierarchical";
      options.inner = inner;
      const std::string bytes = std::to_string(GradientHook(comm, ToyModel(comm).params, options).workspace_bytes());
      EXPECT_NO_THROW(comm.agree(std::vector<Agreement>{{"workspace", bytes}}, patience()));
      const ParamValues weights = train(comm, options, 40, 0.1F);
      expect_equal_on_all_ranks(comm, weights, inner);
      expect_near(weights, dense, 0.5F, fmt::format("{} inside, {} over {}", inner, rule, compressor));
    }
  }
}

TEST_P(HookRules, OverNodes) {
  run([](Communicator& comm) { train_over_nodes(comm); });
}

TEST(HookRulesOverNodes, OfTwoRanks) { spawn(make_local(6, 2), train_over_nodes); }

}  // namespace
}  // namespace gradwire::test
