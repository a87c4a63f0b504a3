// What plans leave behind and begin with: saved states, traces, and what ranks compare.
#include <set>

#include "ranks/hook_plan.hpp"

#include "gradwire/compressor.hpp"
#include "gradwire/trace.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;

class HookPlanFiles : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, HookPlanFiles, ::testing::ValuesIn(worlds()), world_name);

TEST_P(HookPlanFiles, ASavedPlanGoesOn) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    const HookOptions options = planning_options(comm, "budget(ratio=12)");
    Training straight(comm, options);
    straight.steps(0, 18);
    ASSERT_EQ(outcomes(*straight.hook).front(), PlanOutcome::adopted);
    straight.hook->save(folder / "straight");
    const ParamValues expected = straight.model.weights;
    const Plan plan = straight.hook->plan();
    straight.hook.reset();

    Training first(comm, options);
    first.steps(0, 14);
    first.hook->save(folder / "half");
    first.hook.reset();
    comm.barrier(patience());
    // One that plans, and one that only trains.
    for (const bool plans : {true, false}) {
      Training second(comm, plans ? options : toy_options(comm, "q4", "ef"));
      second.model.weights = first.model.weights;
      second.hook->load(folder / "half");
      EXPECT_EQ(second.hook->plan().bytes, plan.bytes);
      second.steps(14, 18);
      EXPECT_TRUE(second.model.weights == expected);
      second.hook->save(folder / "resumed");
      EXPECT_TRUE(same_files(folder.file("resumed"), folder.file("straight")));
      comm.barrier(patience());
    }
    // A state without a plan takes the plan away.
    Training plain(comm, toy_options(comm, "q4", "ef"));
    plain.hook->save(folder / "plain");
    plain.hook->set_plan(same_for_all("q2"));
    comm.barrier(patience());
    plain.hook->load(folder / "plain");
    EXPECT_EQ(spec_of(plain.hook->plan(), kLayers[0]), "q4");
    EXPECT_TRUE(plain.hook->plan().policy.empty());
    plain.hook.reset();
    folder.remove();
  });
}

TEST_P(HookPlanFiles, ATraceHasWhatWasMeasured) {
  run([](Communicator& comm) {
    StateFolder folder(comm);
    const std::filesystem::path path = folder / "gradients.trace";
    if (comm.rank() == 0) std::filesystem::create_directories(path.parent_path());
    comm.barrier(patience());
    HookOptions options = planning_options(comm, "");  // nothing is planned
    options.planning.trace = path.string();
    Training training(comm, options);
    training.steps(0, 12);
    EXPECT_TRUE(outcomes(*training.hook).empty());
    const std::string table = to_json(training.hook->table());
    training.hook.reset();
    if (comm.rank() == 0) {
      std::set<std::string> samples;
      std::vector<std::string> tables;
      TraceReader reader(path.string());
      while (const std::optional<TraceRecord> record = reader.next()) {
        if (const auto* const sample = std::get_if<TraceSample>(&*record)) {
          samples.insert(fmt::format("{} {} {}", sample->step, sample->name, sample->reference));
          EXPECT_FALSE(sample->values.empty());
        } else {
          tables.push_back(to_json(std::get<TraceTable>(*record).table));
        }
      }
      EXPECT_EQ(samples.size(), 6u) << "three layers in steps 5 and 7";
      EXPECT_TRUE(samples.contains("5 layer2.weight q4"));
      EXPECT_EQ(tables, std::vector<std::string>{table});
    }
    folder.remove();
  });
}

TEST_P(HookPlanFiles, RanksThatPlanDifferentlyDoNotStart) {
  run([](Communicator& comm) {
    ToyModel model(comm);
    const auto refused = [&](const HookOptions& options) {
      return outcome_of([&] { GradientHook(comm, model.params, options); });
    };
    if (comm.size() > 1) {
      const Outcome differs = refused(planning_options(comm, comm.rank() == 0 ? "uniform" : "lgreco(alpha=1)"));
      EXPECT_EQ(differs.code, Errc::rank_mismatch);
      EXPECT_THAT(differs.message, HasSubstr("policy uniform"));
    }
    HookOptions options = planning_options(comm, "uniform");
    options.planning.lag = 8;
    EXPECT_THAT(refused(options).message, HasSubstr("lag is 1 step to less than a period (8), given 8"));
    options = planning_options(comm, "uniform");
    options.planning.samples = 5;
    EXPECT_THAT(refused(options).message, HasSubstr("samples are 1 to half a period (4), given 5"));
    for (const double share : {-0.1, 1e-9, 1.1, std::nan("")}) {
      options = planning_options(comm, "uniform");
      options.planning.share = share;
      EXPECT_THAT(refused(options).message, HasSubstr("share is 0, or in [0.001, 1]"));
    }
    options = planning_options(comm, "no_such_policy");
    EXPECT_THAT(refused(options).message, HasSubstr("no_such_policy"));
    options = planning_options(comm, "uniform");
    options.algorithm = "ring";  // carries no sparse frames
    const Outcome illegal = refused(options);
    EXPECT_EQ(illegal.code, Errc::unsupported);
    EXPECT_THAT(illegal.message, HasSubstr("topk"));
  });
}

}  // namespace
}  // namespace gradwire::test
