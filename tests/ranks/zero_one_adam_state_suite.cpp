// 0/1 Adam: what it saves, and what becomes of that.
#include <optional>

#include "ranks/hook_state.hpp"
#include "ranks/zero_one_adam_suite.hpp"

namespace gradwire::test {
namespace {

using Kind = ZeroOneStep::Kind;
using ::testing::HasSubstr;

class ZeroOneState : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, ZeroOneState, ::testing::ValuesIn(worlds()), world_name);

/// At every kind of step, and after an exchange ahead of its time: 96 steps straight are the same bits as some, save, a
/// new optimiser, load and the rest.
TEST_P(ZeroOneState, ResumesBitForBit) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    for (const unsigned stop : {0u, 1u, 5u, 17u, 39u, 40u, 41u, 60u, 72u, 89u}) {
      NoisyModel model(comm);
      const std::string name = fmt::format("after-{}", stop);
      std::vector<std::vector<float>> saved;
      const auto train = [&](unsigned first, bool loads) {
        ZeroOneAdam adam(comm, model.params, small_options());
        if (loads) adam.load(folder / name);
        for (unsigned s = first; s <= 96; ++s) {
          if (s == stop + 1 && !loads) {
            adam.synchronise(model.tensors(model.weights));
            adam.save(folder / name);
            saved = model.weights;
          }
          EXPECT_EQ(step(adam, model, s, 0.01F).kind, expected_kind(s)) << s;
        }
        EXPECT_EQ(adam.steps(), 96u);
      };
      train(1, false);
      const std::vector<std::vector<float>> straight = std::exchange(model.weights, saved);
      train(stop + 1, true);
      EXPECT_EQ(model.weights, straight) << "stopped after step " << stop;
    }
    folder.remove();
  });
}

TEST_P(ZeroOneState, WhatCannotBeSavedOrLoadedIsNamedAndChangesNothing) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    NoisyModel model(comm);
    std::optional<ZeroOneAdam> adam(std::in_place, comm, model.params, small_options());
    const auto refused = [&](const std::string& name) { return outcome_of([&] { adam->load(folder / name); }); };
    for (unsigned s = 1; s <= 90; ++s) step(*adam, model, s, 0.01F);
    const Outcome local = outcome_of([&] { adam->save(folder / "local"); });
    EXPECT_EQ(local.code, Errc::invalid_argument);
    EXPECT_THAT(local.message, HasSubstr("save 2 steps after an exchange: synchronise first"));
    EXPECT_EQ(refused("local").code, Errc::invalid_argument);
    adam->synchronise(model.tensors(model.weights));
    adam->save(folder / "adam");
    adam.reset();  // a communicator has one owner

    HookOptions options;
    options.compressor = "sign";
    options.rule = "ef";
    options.library_thread = comm.transport().info().any_thread;
    {
      GradientHook hook(comm, model.params, options);
      hook.save(folder / "hook");
      const Outcome outcome = outcome_of([&] { hook.load(folder / "adam"); });
      EXPECT_EQ(outcome.code, Errc::bad_state);
      EXPECT_THAT(outcome.message, HasSubstr("it is a ZeroOneAdam's"));
    }
    adam.emplace(comm, model.params, small_options());
    adam->load(folder / "adam");
    EXPECT_EQ(refused("nowhere").code, Errc::io);
    const Outcome foreign = refused("hook");
    EXPECT_EQ(foreign.code, Errc::bad_state);
    EXPECT_THAT(foreign.message, HasSubstr("a GradientHook's, not a ZeroOneAdam's"));
    adam->save(folder / "untouched");
    EXPECT_TRUE(same_files(folder.file("adam"), folder.file("untouched")));
    folder.remove();
  });
}

/// What is owed changes its unit once, whenever the saved run's and this one's local steps begin.
TEST_P(ZeroOneState, LoadsUnderAnotherFreeze) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    const auto with_freeze = [](std::uint64_t freeze) {
      ZeroOneAdamOptions options = small_options();
      options.freeze = freeze;
      return options;
    };
    NoisyModel model(comm);
    std::optional<ZeroOneAdam> adam(std::in_place, comm, model.params, with_freeze(40));
    for (unsigned s = 1; s <= 30; ++s) step(*adam, model, s, 0.01F);
    adam->save(folder / "common");
    const auto common = model.weights;
    for (unsigned s = 31; s <= 50; ++s) step(*adam, model, s, 0.01F);
    adam->save(folder / "local");
    adam.reset();

    adam.emplace(comm, model.params, with_freeze(20));
    adam->load(folder / "common");
    model.weights = common;
    const double before = model.distance();
    for (unsigned s = 31; s <= 56; ++s) {
      const Kind kind = step(*adam, model, s, 0.01F).kind;
      EXPECT_TRUE(kind == Kind::local || kind == Kind::synchronise) << s;
    }
    adam->synchronise(model.tensors(model.weights));
    EXPECT_LT(model.distance(), 2 * before);  // gradients taken for updates would be 100 times too large
    EXPECT_TRUE(model.equal_on_all_ranks(comm));
    adam.reset();

    adam.emplace(comm, model.params, with_freeze(60));
    const Outcome outcome = outcome_of([&] { adam->load(folder / "local"); });
    EXPECT_EQ(outcome.code, Errc::bad_state);
    EXPECT_THAT(outcome.message, HasSubstr("has had local steps after step 50, and freeze is 60"));
    folder.remove();
  });
}

}  // namespace
}  // namespace gradwire::test
