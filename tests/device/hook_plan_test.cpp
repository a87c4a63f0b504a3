// Plans of a hook on device memory: where what is measured allows no other plan, those of a hook on the host, and the
// same updates, events and states; always the same on all ranks.
#include <gmock/gmock.h>

#include <filesystem>
#include <map>
#include <thread>

#include "base/deadline.hpp"
#include "device/device_ranks.hpp"
#include "device/hook_trainer.hpp"

#include "gradwire/trace.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

/// Windows of 6 steps from step 1 on: measured are steps 3 and 4, summed 6, compared 7, so plans hold from 8, 14, ...
/// Quantisers have frames of the same bytes on hosts and devices.
HookOptions planning_options(const std::string& policy) {
  HookOptions options = options_of(Space::host);
  options.planning.policy = policy;
  options.planning.candidates = {"q2", "q3", "q6", "q8"};
  options.planning.start = 1;
  options.planning.period = 6;
  options.planning.samples = 2;
  options.planning.lag = 1;
  options.planning.share = 0;
  options.planning.watch = 0;
  return options;
}

/// Gradients whose layers differ by far in norm, so that no rounding decides between plans.
std::vector<Values> uneven_gradients(int rank, unsigned step) {
  std::vector<Values> gradients = gradients_of(rank, step);
  for (std::size_t p = 0; p < gradients.size(); ++p)
    for (std::size_t i = 0; i < count_of(params()[p]); ++i)
      gradients[p].set(i, gradients[p].get(i) * std::pow(0.2f, static_cast<float>(p)));
  return gradients;
}

std::string in_words(const std::vector<PlanEvent>& events) {
  std::string text;
  for (const PlanEvent& event : events)
    text += fmt::format("{} {} {}\n", event.step, name(event.outcome), event.detail);
  return text;
}

void expect_same_on_all_ranks(const Communicator& comm, const GradientHook& hook) {
  Plan plan = hook.plan();
  plan.solver_ms = 0;
  const std::vector<Agreement> entries{{"the plan", to_json(plan)},
                                       {"the table", hook.table().layers.empty() ? "" : to_json(hook.table())},
                                       {"events", in_words(hook.planning().events)}};
  EXPECT_NO_THROW(comm.agree(entries, deadline_after(std::chrono::seconds(60))));
}

void expect_close(const Table& found, const Table& expected, double unit, bool same_bytes) {
  ASSERT_EQ(found.layers.size(), expected.layers.size());
  for (std::size_t l = 0; l < expected.layers.size(); ++l) {
    const TableLayer& a = expected.layers[l];
    const TableLayer& b = found.layers[l];
    ASSERT_EQ(b.name, a.name);
    EXPECT_NEAR(b.norm, a.norm, 1e-6 * a.norm);
    ASSERT_EQ(b.candidates.size(), a.candidates.size());
    for (std::size_t c = 0; c < a.candidates.size(); ++c) {
      EXPECT_EQ(b.candidates[c].spec, a.candidates[c].spec);
      EXPECT_NEAR(b.candidates[c].error, a.candidates[c].error, unit * a.candidates[c].error + 1e-7 * a.norm)
          << a.name << ", " << a.candidates[c].spec;
      if (same_bytes) {
        EXPECT_EQ(b.candidates[c].bytes, a.candidates[c].bytes) << a.candidates[c].spec;
      }
    }
  }
}

class DeviceHookPlan : public DeviceTest {
 protected:
  using Change = std::function<void(int, unsigned, std::vector<Values>&)>;

  /// Runs `steps` on both, with `change` to the gradients of each step, and plans that are set before some: updates,
  /// plans and events are alike.
  static void compare(int ranks, const HookOptions& options, unsigned steps, const Change& change = {},
                      const std::map<unsigned, Plan>& set = {}) {
    const bool is_equal = ranks <= most_ranks_that_sum_like_local();
    HookOptions there = options;
    there.space = Space::device;
    const std::vector<Communicator> others = make_device_ranks(ranks);
    spawn_on_devices(make_local(ranks), [&](Communicator& comm) {
      Trainer on_host(comm, options);
      Communicator other = others[static_cast<std::size_t>(comm.rank())];
      Trainer on_device(other, there);
      for (unsigned step = 0; step < steps; ++step) {
        std::vector<Values> gradients = uneven_gradients(comm.rank(), step);
        if (change) change(comm.rank(), step, gradients);
        if (const auto plan = set.find(step); plan != set.end()) {
          on_host.hook().set_plan(plan->second);
          on_device.hook().set_plan(plan->second);
        }
        const auto expected = on_host.step(gradients);
        const auto found = on_device.step(gradients);
        for (std::size_t p = 0; p < expected.size(); ++p) {
          const ParamInfo info = params()[p];
          ASSERT_TRUE(is_equal ? found[p] == expected[p] : are_close(found[p], expected[p], info.dtype))
              << "step " << step << ", " << info.name;
        }
        const StepReport a = on_host.hook().report();
        const StepReport b = on_device.hook().report();
        for (std::size_t p = 0; p < a.params.size(); ++p)
          ASSERT_EQ(b.params[p].compressor, a.params[p].compressor) << "step " << step << ", " << a.params[p].name;
      }
      expect_close(on_device.hook().table(), on_host.hook().table(), 1e-6, true);
      EXPECT_EQ(in_words(on_device.hook().planning().events), in_words(on_host.hook().planning().events));
      expect_same_on_all_ranks(other, on_device.hook());
    });
  }
};

TEST_F(DeviceHookPlan, AdoptsTheHostsPlans) {
  GRADWIRE_NEEDS_RANKS(7);
  for (const int ranks : {1, 2, 3, 7}) {
    SCOPED_TRACE(ranks);
    compare(ranks, planning_options("budget(ratio=8)"), 16);
  }
  compare(2, planning_options("lgreco"), 9);
  compare(2, planning_options("accordion(low=q2,high=q8)"), 15);
}

TEST_F(DeviceHookPlan, AdoptsWhatItHasMeasured) {
  spawn_on_devices(make_device_ranks(1), [](Communicator& comm) {
    HookOptions options = planning_options("budget(ratio=8)");
    options.space = Space::device;
    Trainer trainer(comm, options);
    for (unsigned step = 0; step < 9; ++step) (void)trainer.step(uneven_gradients(0, step));
    ASSERT_EQ(trainer.hook().planning().events.size(), 1u);
    EXPECT_EQ(trainer.hook().planning().events[0].outcome, PlanOutcome::adopted);
    EXPECT_EQ(trainer.hook().planning().events[0].step, 8u);
    const Plan plan = trainer.hook().plan();
    EXPECT_EQ(plan.layers.front().spec, "q8") << "the layer with the largest gradients";
    EXPECT_EQ(plan.layers.back().spec, "q2");
    EXPECT_GT(trainer.hook().planning().measure_us, 0);
  });
}

/// Sparse frames have other bytes there than on hosts, and what a density loses is known to 0.4 %: tables are close,
/// and each of the hook's own ranks comes to the same plan.
TEST_F(DeviceHookPlan, WithAllFamilies) {
  GRADWIRE_NEEDS_RANKS(3);
  for (const int ranks : {1, 3}) {
    SCOPED_TRACE(ranks);
    HookOptions options = planning_options("budget(ratio=12)");
    options.planning.samples = 1;
    options.planning.candidates = {"q2",           "q8",   "topk(0.01)",  "topk(0.05)|f16",
                                   "topk(0.1)|q4", "sign", "powersgd(2)", "q4(round=stochastic)"};
    HookOptions there = options;
    there.space = Space::device;
    const std::vector<Communicator> others = make_device_ranks(ranks);
    spawn_on_devices(make_local(ranks), [&](Communicator& comm) {
      Trainer on_host(comm, options);
      Communicator other = others[static_cast<std::size_t>(comm.rank())];
      Trainer on_device(other, there);
      for (unsigned step = 0; step < 8; ++step) {
        (void)on_device.step(uneven_gradients(comm.rank(), step));
        (void)on_host.step(uneven_gradients(comm.rank(), step));
      }
      expect_close(on_device.hook().table(), on_host.hook().table(), 0.004, false);
      EXPECT_THAT(in_words(on_device.hook().planning().events), HasSubstr("8 adopted"));
      expect_same_on_all_ranks(other, on_device.hook());
    });
  }
}

TEST_F(DeviceHookPlan, UpdatesUnderOnePlanAreTheHosts) {
  GRADWIRE_NEEDS_RANKS(2);
  compare(2, planning_options("fixed(powersgd(2),head=topk(0.1))"), 10);
}

TEST_F(DeviceHookPlan, UpdatesUnderPlansByHandAreTheHosts) {
  GRADWIRE_NEEDS_RANKS(2);
  const auto plan_of = [](const std::vector<std::string>& specs) {
    Plan plan;
    std::size_t l = 0;
    for (const char* const layer : {"embedding", "half", "brain", "head"})
      plan.layers.push_back({layer, specs[l++], 0, 0});
    return plan;
  };
  const std::map<unsigned, Plan> plans{{1, plan_of({"powersgd(2)", "topk(0.1)", "q2", "topk(0.1)|q4"})},
                                       {3, plan_of({"topk(0.05)", "powersgd(2)", "none", "q3"})}};
  compare(2, planning_options("uniform"), 6, {}, plans);
}

/// As fast as steps can be, and then slower, until a plan was made in time: measured by a thread and a stream of its
/// own.
TEST_F(DeviceHookPlan, AThreadThatMeasuresDoesNotPartTheRanks) {
  GRADWIRE_NEEDS_RANKS(2);
  spawn_on_devices(make_device_ranks(2), [](Communicator& comm) {
    HookOptions options = planning_options("budget(ratio=8)");
    options.space = Space::device;
    options.planning.share = 1;
    Trainer trainer(comm, options);
    const auto adopted = [&] {
      const std::vector<PlanEvent> events = trainer.hook().planning().events;
      return std::any_of(events.begin(), events.end(),
                         [](const PlanEvent& event) { return event.outcome == PlanOutcome::adopted; });
    };
    for (unsigned step = 0; step < 300 && !adopted(); ++step) {
      if (step > 20) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      (void)trainer.step(uneven_gradients(comm.rank(), step));
    }
    EXPECT_TRUE(adopted());
    for (const PlanEvent& event : trainer.hook().planning().events) EXPECT_NE(event.outcome, PlanOutcome::failed);
    expect_same_on_all_ranks(comm, trainer.hook());
  });
}

TEST_F(DeviceHookPlan, GuardsFindWhatTheyFindOnHosts) {
  GRADWIRE_NEEDS_RANKS(3);
  HookOptions loses = planning_options("fixed(q2)");
  loses.planning.watch = 3;
  loses.planning.max_layer_error = 0.25;
  HookOptions owes = planning_options("uniform");
  owes.planning.watch = 3;
  owes.planning.max_residual_ratio = 0.01;
  for (HookOptions options : {loses, owes}) {
    SCOPED_TRACE(options.planning.policy);
    compare(3, options, 14);
    for (const char* const own :
         {"q4+decay(0.01)", "q4+reset(4)", "q4+ef(storage=q8)", "q4+econtrol(0.1)", "q4+none"}) {
      SCOPED_TRACE(own);
      options.compressor = own;
      compare(1, options, 12);
    }
  }
}

TEST_F(DeviceHookPlan, GuardsDoMoveLayers) {
  spawn_on_devices(make_device_ranks(1), [](Communicator& comm) {
    HookOptions options = planning_options("uniform");
    options.space = Space::device;
    options.planning.watch = 3;
    options.planning.max_residual_ratio = 0.01;
    Trainer trainer(comm, options);
    for (unsigned step = 0; step < 5; ++step) (void)trainer.step(uneven_gradients(0, step));
    EXPECT_THAT(in_words(trainer.hook().planning().events), HasSubstr("5 guarded embedding owes"));
    EXPECT_EQ(trainer.hook().plan().layers.front().spec, "none");
  });
}

TEST_F(DeviceHookPlan, WhatIsNotFiniteIsNotMeasured) {
  GRADWIRE_NEEDS_RANKS(2);
  HookOptions options = planning_options("budget(ratio=8)");
  options.planning.watch = 1;
  for (const NonFinite what : {NonFinite::skip, NonFinite::dense}) {
    options.non_finite = what;
    compare(2, options, 14, [](int rank, unsigned step, std::vector<Values>& gradients) {
      if (rank == 1 && step == 3) gradients[4].set(7, std::nanf(""));
    });
  }
}

/// In the middle of a window; plan and what guards have forbidden go along, on both.
TEST_F(DeviceHookPlan, StatesHoldPlansForBoth) {
  GRADWIRE_NEEDS_RANKS(2);
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / fmt::format("gwp{}", getpid());
  std::filesystem::create_directories(folder);
  HookOptions options = planning_options("fixed(q2)");
  options.planning.watch = 3;
  options.planning.max_layer_error = 0.25;
  HookOptions there = options;
  there.space = Space::device;
  const std::vector<Communicator> host = make_local(2);
  const std::vector<Communicator> second = make_device_ranks(2);
  spawn_on_devices(make_device_ranks(2), [&](Communicator& comm) {
    const auto rank = static_cast<std::size_t>(comm.rank());
    Trainer saver(comm, there);
    for (unsigned step = 0; step < 11; ++step) (void)saver.step(uneven_gradients(comm.rank(), step));
    EXPECT_THAT(in_words(saver.hook().planning().events), HasSubstr("guarded"));
    saver.hook().save(folder.string());
    Trainer on_host(host[rank], options);
    Trainer on_device(second[rank], there);
    on_host.hook().load(folder.string());
    on_device.hook().load(folder.string());
    saver.hook().load(folder.string());  // what the window has measured is lost for all
    for (unsigned step = 11; step < 22; ++step) {
      const auto expected = on_host.step(uneven_gradients(comm.rank(), step));
      ASSERT_EQ(saver.step(uneven_gradients(comm.rank(), step)), expected) << step;
      ASSERT_EQ(on_device.step(uneven_gradients(comm.rank(), step)), expected) << step;
    }
    const std::string events = in_words(on_host.hook().planning().events);
    EXPECT_THAT(events, HasSubstr("failed")) << "the policy names what the guard has ruled out";
    EXPECT_EQ(in_words(on_device.hook().planning().events), events);
  });
  std::filesystem::remove_all(folder);
}

/// The samples of a trace are what was sent, bit for bit, by a thread or in the steps.
TEST_F(DeviceHookPlan, TracesHoldWhatWasSent) {
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / fmt::format("gwt{}", getpid());
  std::filesystem::create_directories(folder);
  const auto record = [&](Space space, double share) {
    const std::string file = (folder / fmt::format("{}{}.trace", static_cast<int>(space), share)).string();
    HookOptions options = planning_options({});
    options.space = space;
    options.planning.share = share;
    options.planning.trace = file;
    spawn_on_devices(space == Space::host ? make_local(1) : make_device_ranks(1), [&](Communicator& comm) {
      Trainer trainer(comm, options);
      for (unsigned step = 0; step < 6; ++step) {
        (void)trainer.step(uneven_gradients(0, step));
        if (share > 0) std::this_thread::sleep_for(std::chrono::milliseconds(50));
      }
    });
    std::map<std::string, std::vector<float>> samples;
    TraceReader reader(file);
    while (const auto next = reader.next())
      if (const auto* const sample = std::get_if<TraceSample>(&*next))
        samples[fmt::format("{} {}", sample->step, sample->name)] = sample->values;
    return samples;
  };
  const auto expected = record(Space::host, 0);
  EXPECT_EQ(expected.size(), 2 * 4u);
  EXPECT_EQ(record(Space::device, 0), expected);
  const auto by_thread = record(Space::device, 1);
  EXPECT_FALSE(by_thread.empty());
  for (const auto& [sample, values] : by_thread) EXPECT_EQ(values, expected.at(sample)) << sample;
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace gradwire::testing
