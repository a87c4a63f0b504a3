// Saving and loading a hook's state: a run that goes on is the run that never stopped.
#include "ranks/hook_state.hpp"

namespace gradwire::test {
namespace {

class HookState : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, HookState, ::testing::ValuesIn(worlds()), world_name);

/// What a run consists of, beside its options.
struct Setting {
  const char* scheme;
  const char* rule = "ef";
  DType dtype = DType::f32;
  const char* other = "";  ///< the scheme of 'layer2.weight'
};

std::unique_ptr<Training> make_training(Communicator& comm, const Setting& setting) {
  return std::make_unique<Training>(comm, toy_options(comm, setting.scheme, setting.rule), setting.dtype,
                                    [&](std::vector<ParamInfo>& params) { params[2].compressor = setting.other; });
}

/// Twenty steps, against ten, a save, and ten of a new hook that loaded it: the same weights and the same state.
void expect_resumed_as_if_never_stopped(Communicator& comm, const Setting& setting) {
  SCOPED_TRACE(fmt::format("{} + {}, {}, {}", setting.scheme, setting.rule, name(setting.dtype), setting.other));
  StateFolder folder(comm);
  const auto straight = make_training(comm, setting);
  straight->steps(0, 20);
  straight->hook->save(folder / "straight");
  const StepReport expected = straight->hook->report();
  straight->hook.reset();

  auto first = make_training(comm, setting);
  first->steps(0, 10);
  first->hook->save(folder / "half");
  first->hook.reset();
  comm.barrier(patience());

  const auto second = make_training(comm, setting);
  second->model.weights = first->model.weights;
  second->hook->load(folder / "half");
  EXPECT_EQ(second->hook->report().step, 10u);
  second->hook->save(folder / "again");
  EXPECT_TRUE(same_files(folder.file("again"), folder.file("half"))) << "saved, loaded, saved";
  second->steps(10, 20);
  second->hook->save(folder / "resumed");

  for (std::size_t p = 0; p < straight->model.weights.size(); ++p) {
    EXPECT_TRUE(second->model.weights[p] == straight->model.weights[p]) << straight->model.params[p].name;
  }
  EXPECT_TRUE(same_files(folder.file("resumed"), folder.file("straight")));
  const StepReport report = second->hook->report();
  EXPECT_EQ(report.step, 20u);
  EXPECT_EQ(report.wire_bytes, expected.wire_bytes);
  for (std::size_t p = 0; p < report.params.size(); ++p) {
    EXPECT_EQ(report.params[p].residual_norm, expected.params[p].residual_norm);
  }
  second->hook.reset();
  folder.remove();
}

TEST_P(HookState, RulesGoOnBitForBit) {
  run([](Communicator& comm) {
    for (const Setting& setting : {
             Setting{"q4(round=stochastic)"},
             Setting{"q4(round=stochastic)", "ef(storage=bf16)"},
             Setting{"q4", "ef(storage=q8)"},
             Setting{"topk(0.05)", "ef21"},
             Setting{"q4(round=stochastic)", "ef21_sgdm(0.1)"},
             Setting{"topk(0.05)", "econtrol(0.05)"},
             Setting{"q4", "econtrol(0.05,storage=f16)"},
             Setting{"natural", "diana(0.3)"},
             Setting{"randomk(0.1)", "diana(0.05)"},
             Setting{"q4(round=stochastic)", "none"},
         }) {
      expect_resumed_as_if_never_stopped(comm, setting);
    }
  });
}

/// The save lies inside a ramp, a warm-up, and between steps of `every` and `reset`.
TEST_P(HookState, SchedulesGoOnBitForBit) {
  run([](Communicator& comm) {
    for (const Setting& setting : {
             Setting{"topk(0.05)+dgc(0.9,warmup=3)"},
             Setting{"topk(0.05)+dgc(0.9,nesterov=yes,clip=20,warmup=4)"},
             Setting{"q4(round=stochastic)+warmup(13)+every(4)+decay(0.9)"},
             Setting{"q2+ramp(q8,q4,steps=6)+reset(7)"},
             Setting{"none", "dgc(0.9)"},
             Setting{"quantize(bits=3,levels=learned,refresh=7)"},
             Setting{"adaptive_threshold(0.05,refresh=7)"},
             Setting{"adaptive_threshold(0.05,refresh=7)|quantize(bits=2,levels=learned,refresh=3)|zstd"},
         }) {
      expect_resumed_as_if_never_stopped(comm, setting);
    }
  });
}

TEST_P(HookState, WarmStartsGoOnBitForBit) {
  run([](Communicator& comm) {
    for (const Setting& setting : {
             Setting{"topk(0.05)"},
             Setting{"powersgd(rank=2)"},
             Setting{"powersgd(rank=2,rounds=1)"},
             Setting{"powersgd(rank=2,start=12)"},
             Setting{"projection(rank=2,refresh=7)"},
             Setting{"powersgd(rank=2)", "ef21"},
             Setting{"powersgd(rank=4)+ramp(powersgd(rank=2),steps=8)"},
             Setting{"powersgd(rank=2)+warmup(13)"},
             // The second parameter's operation is another one in dense steps than in others.
             Setting{"q4+every(3)", "ef", DType::f32, "powersgd(rank=2)"},
             Setting{"q4+ramp(q8,steps=8)", "ef", DType::f32, "powersgd(rank=2,rounds=1)"},
             // Saved before that other one has run for the first time.
             Setting{"q4+ramp(q8,steps=13)", "ef", DType::f32, "powersgd(rank=2)"},
             Setting{"q4+ramp(q8,steps=13)", "ef", DType::f32, "quantize(bits=4,levels=learned,refresh=8)"},
         }) {
      expect_resumed_as_if_never_stopped(comm, setting);
    }
  });
}

/// Also what a failed load puts back goes where it was: an operation that has not run yet still starts afresh.
TEST_P(HookState, AFailedLoadChangesNothingLater) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    for (const char* second : {"powersgd(rank=2)", "quantize(bits=4,levels=learned,refresh=8)"}) {
      const auto train = [&](bool fails) {
        Training training(comm, toy_options(comm, "q4+ramp(q8,steps=13)", "ef"), DType::f32,
                          [&](std::vector<ParamInfo>& params) { params[2].compressor = second; });
        training.steps(0, 10);
        if (fails) {
          EXPECT_EQ(outcome_of([&] { training.hook->load(folder / "nowhere"); }).code, Errc::io);
        }
        training.steps(10, 20);
        return training.model.weights;
      };
      EXPECT_EQ(train(true), train(false)) << second;
    }
    folder.remove();
  });
}

TEST_P(HookState, SixteenBitGradientsGoOnBitForBit) {
  run([](Communicator& comm) {
    for (const Setting& setting : {
             Setting{"q4(round=stochastic)", "ef", DType::bf16},
             Setting{"topk(0.05)", "ef21", DType::f16},
             Setting{"powersgd(rank=2)", "ef", DType::bf16},
             Setting{"topk(0.05)+dgc(0.9,warmup=3)", "ef", DType::f16},
         }) {
      expect_resumed_as_if_never_stopped(comm, setting);
    }
  });
}

/// Back to an earlier state, in a hook that has trained on: nothing of the later one is left.
TEST_P(HookState, GoesBackInALiveHook) {
  run([](Communicator& comm) {
    for (const Setting& setting :
         {Setting{"q4(round=stochastic)", "ef21_sgdm"}, Setting{"powersgd(rank=2)"},
          Setting{"powersgd(rank=2,rounds=1)+warmup(4)"}, Setting{"projection(rank=2,refresh=7)"}}) {
      for (const unsigned at : {0U, 3U, 6U}) {
        SCOPED_TRACE(fmt::format("{} + {}, saved after {} steps", setting.scheme, setting.rule, at));
        StateFolder folder(comm);
        const auto training = make_training(comm, setting);
        training->steps(0, at);
        const std::vector<std::vector<float>> weights = training->model.weights;
        training->hook->save(folder / "early");
        training->steps(at, 12);
        training->hook->save(folder / "once");
        const std::vector<std::vector<float>> once = training->model.weights;

        training->model.weights = weights;
        training->hook->load(folder / "early");
        training->hook->save(folder / "early again");
        EXPECT_TRUE(same_files(folder.file("early again"), folder.file("early")));
        training->steps(at, 12);
        training->hook->save(folder / "twice");
        EXPECT_TRUE(training->model.weights == once);
        EXPECT_TRUE(same_files(folder.file("twice"), folder.file("once")));
        training->hook.reset();
        folder.remove();
      }
    }
  });
}

TEST_P(HookState, CountersComeBack) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    for (const NonFinite policy : {NonFinite::skip, NonFinite::dense}) {
      HookOptions options = toy_options(comm, "q4", "ef");
      options.non_finite = policy;
      const std::string name = policy == NonFinite::skip ? "skip" : "dense";
      StepReport before;
      {
        Training training(comm, options);
        training.step(0);
        training.step(1, comm.rank() == comm.size() - 1);
        training.step(2);
        before = training.hook->report();
        training.hook->save(folder / name);
      }
      EXPECT_EQ(before.skipped_steps, policy == NonFinite::skip ? 1u : 0u);
      EXPECT_EQ(before.dense_fallbacks > 0, policy == NonFinite::dense);
      comm.barrier(patience());
      Training training(comm, options);
      training.hook->load(folder / name);
      const StepReport after = training.hook->report();
      EXPECT_EQ(after.step, 3u);
      EXPECT_FALSE(after.skipped);
      EXPECT_FALSE(training.hook->skipped());
      EXPECT_EQ(after.skipped_steps, before.skipped_steps);
      EXPECT_EQ(after.dense_fallbacks, before.dense_fallbacks);
      for (std::size_t p = 0; p < after.params.size(); ++p) {
        EXPECT_EQ(after.params[p].residual_norm, before.params[p].residual_norm);
      }
      training.step(3, comm.rank() == 0);
      training.hook->load(folder / name);  // after a step that was dropped
      EXPECT_FALSE(training.hook->skipped());
      EXPECT_EQ(training.hook->report().wire_bytes, 0u);
      EXPECT_EQ(training.hook->report().skipped_steps, before.skipped_steps);
      training.step(3);
      EXPECT_EQ(training.hook->report().step, 4u);
      EXPECT_EQ(training.hook->report().skipped_steps, before.skipped_steps);
    }
    folder.remove();
  });
}

}  // namespace
}  // namespace gradwire::test
