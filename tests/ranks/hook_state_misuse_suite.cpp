// Loading what does not fit: every rank hears of it, and training goes on as if it had not been tried.
#include <chrono>

#include "ranks/hook_state.hpp"

namespace gradwire::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class HookStateMisuse : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, HookStateMisuse, ::testing::ValuesIn(worlds()), world_name);

HookOptions options_for(const Communicator& comm) {
  HookOptions options = toy_options();
  options.compressor = "powersgd(rank=2)";
  options.rule = "ef";
  options.library_thread = comm.transport().info().any_thread;
  return options;
}

/// A saved state of five steps.
void save_five_steps(Communicator& comm, const std::string& folder) {
  Training training(comm, options_for(comm));
  training.steps(0, 5);
  training.hook->save(folder);
  training.hook.reset();
  comm.barrier(patience());
}

void damage(const fs::path& path, const std::string& how) {
  const std::string bytes = read_bytes(path);
  if (how == "missing") {
    fs::remove(path);
  } else if (how == "torn") {
    fs::resize_file(path, bytes.size() / 2);
  } else if (how == "damaged") {
    std::string changed = bytes;
    changed[bytes.size() / 2] = static_cast<char>(changed[bytes.size() / 2] ^ 1);
    std::ofstream(path, std::ios::binary) << changed;
  } else {
    SavedState state = read_state(path);
    if (how == "of another rank") ++state.rank;
    if (how == "of another step") ++state.step;
    if (how == "inside out") state.params[0].memories.at(0).bytes += "more";
    write_state(path, state);
  }
}

/// On the last rank alone: the others hear at once what is wrong there, and no rank's state changes.
TEST_P(HookStateMisuse, OneRanksBadFileIsEveryRanksErrorAndLeavesNoTrace) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    Training expected(comm, options_for(comm));
    expected.steps(0, 8);
    expected.hook.reset();
    const int odd = comm.size() - 1;
    for (const char* const how : {"missing", "torn", "damaged", "of another rank", "of another step", "inside out"}) {
      SCOPED_TRACE(how);
      const bool takes_two = how == std::string("of another step") || how == std::string("missing");
      if (takes_two && comm.size() == 1) continue;
      save_five_steps(comm, folder / how);
      if (comm.rank() == odd) damage(folder.file(how), how);
      comm.barrier(patience());

      Training training(comm, options_for(comm));
      training.steps(0, 4);
      training.hook->save(folder / "before");
      const auto begin = std::chrono::steady_clock::now();
      const Outcome outcome = outcome_of([&] { training.hook->load(folder / how); });
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20)) << "not at the deadline";
      EXPECT_TRUE(outcome.code == Errc::bad_state || outcome.code == Errc::rank_mismatch) << outcome.message;
      if (how == std::string("of another step")) {
        EXPECT_THAT(outcome.message, HasSubstr(fmt::format("rank 0 has '5', rank {} has '6'", odd)));
      } else if (how == std::string("inside out")) {
        EXPECT_THAT(outcome.message, HasSubstr("saved state of 'layer0.weight'"));
      } else {
        EXPECT_THAT(outcome.message, HasSubstr(state_file_name(odd, comm.size())));
      }
      EXPECT_EQ(training.hook->report().step, 4u);
      training.hook->save(folder / "after");
      EXPECT_TRUE(same_files(folder.file("after"), folder.file("before")));
      training.steps(4, 8);
      EXPECT_TRUE(training.model.weights == expected.model.weights);
    }
    folder.remove();
  });
}

/// All that differs, in one message.
TEST_P(HookStateMisuse, AnotherModelIsDescribed) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    save_five_steps(comm, folder / "saved");
    HookOptions options = options_for(comm);
    options.average = false;
    ToyModel model(comm);
    model.params[0].shape = {40, 64};
    model.params[1].dtype = DType::bf16;
    model.params[2].rule = "ef21";
    model.params[3].name = "head.weight";
    model.params[4].rule = "ef(storage=bf16)";
    model.params[5].compressor = "q8";  // was dense
    GradientHook hook(comm, model.params, options);
    const Outcome outcome = outcome_of([&] { hook.load(folder / "saved"); });
    EXPECT_EQ(outcome.code, Errc::bad_state);
    EXPECT_THAT(outcome.message, HasSubstr("the saved state is of another model"));
    for (const char* const part :
         {"it is of means, not sums", "'layer0.weight' was [64x40] and is [40x64]",
          "'layer1.weight' was f32 and is bf16", "'layer2.weight' was under the rule ef,",
          "'layer3.weight' was saved and is not registered", "'layer4.weight' was under the rule ef,",
          "'layer5.weight' was under the rule none,", "'head.weight' is new"}) {
      EXPECT_THAT(outcome.message, HasSubstr(part));
    }
    EXPECT_EQ(hook.report().step, 0u);
    folder.remove();
  });
}

/// What may change: compressors, buckets, ids, the order of registration, parameters of the rule.
TEST_P(HookStateMisuse, OtherCompressorsAndOrdersAreNoOtherModel) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    save_five_steps(comm, folder / "saved");
    HookOptions options = options_for(comm);
    options.compressor = "q4";
    options.bucket_bytes = 100'000;
    Training training(comm, options);
    training.hook.reset();
    std::vector<ParamInfo> params(training.model.params.rbegin(), training.model.params.rend());
    training.hook = std::make_unique<GradientHook>(comm, params, options);
    training.hook->load(folder / "saved");
    const SavedState saved = read_state(folder.file("saved"));
    training.hook->save(folder / "other");
    const SavedState other = read_state(folder.file("other"));
    EXPECT_EQ(other.step, 5u);
    ASSERT_EQ(other.params.size(), saved.params.size());
    for (std::size_t p = 0; p < saved.params.size(); ++p) {
      const SavedParam& then = saved.params[p];
      const SavedParam& now = other.params[saved.params.size() - 1 - p];
      EXPECT_EQ(now.name, then.name);
      ASSERT_EQ(now.vectors.size(), then.vectors.size());
      for (std::size_t v = 0; v < now.vectors.size(); ++v) EXPECT_EQ(now.vectors[v].bytes, then.vectors[v].bytes);
      EXPECT_TRUE(now.memories.empty()) << "warm starts of a compressor that is gone";
    }
    training.steps(5, 7);
    folder.remove();
  });
}

TEST_P(HookStateMisuse, NoStateToLoad) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    Training training(comm, options_for(comm));
    const Outcome outcome = outcome_of([&] { training.hook->load(folder / "missing"); });
    EXPECT_EQ(outcome.code, Errc::io) << "every rank finds so itself";
    EXPECT_THAT(outcome.message, HasSubstr("/missing"));
    training.steps(0, 2);
    folder.remove();
  });
}

TEST_P(HookStateMisuse, NothingIsSavedOrLoadedInMidStep) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    Training training(comm, options_for(comm));
    training.hook->save(folder / "start");
    comm.barrier(patience());
    ToyModel& model = training.model;
    for (std::size_t p = 0; p < model.params.size(); ++p) {
      model.compute_gradient(p);
      training.hook->ready(model.id(p), model.gradient(p));
      for (const Outcome& outcome : {outcome_of([&] { training.hook->save(folder / "middle"); }),
                                     outcome_of([&] { training.hook->load(folder / "start"); })}) {
        ASSERT_EQ(outcome.code, Errc::invalid_argument);
        ASSERT_THAT(outcome.message, HasSubstr("in mid-step"));
      }
    }
    EXPECT_FALSE(fs::exists(folder / "middle"));
    wait(training.hook->finish_step());
    training.hook->save(folder / "end");
    EXPECT_EQ(read_state(folder.file("end")).step, 1u);
    folder.remove();
  });
}

TEST_P(HookStateMisuse, TwoParametersOfOneNameCannotBeSavedOrLoaded) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    save_five_steps(comm, folder / "singles");
    Training training(comm, options_for(comm), DType::f32,
                      [](std::vector<ParamInfo>& params) { params[4].name = params[0].name; });
    training.steps(0, 2);
    const Outcome outcome = outcome_of([&] { training.hook->save(folder / "twins"); });
    EXPECT_EQ(outcome.code, Errc::invalid_argument);
    EXPECT_THAT(outcome.message, HasSubstr("two parameters are called 'layer0.weight'"));
    EXPECT_FALSE(fs::exists(folder / "twins"));
    const Outcome load = outcome_of([&] { training.hook->load(folder / "singles"); });
    EXPECT_EQ(load.code, Errc::invalid_argument);
    EXPECT_THAT(load.message, HasSubstr("two parameters are called 'layer0.weight'"));
    training.steps(2, 3);
    folder.remove();
  });
}

}  // namespace
}  // namespace gradwire::test
