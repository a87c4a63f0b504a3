// A hook on device memory: updates, state files and verdicts are those of a hook on the host.
#include "gradwire/hook.hpp"

#include <filesystem>

#include "base/deadline.hpp"
#include "device/device_ranks.hpp"
#include "device/hook_trainer.hpp"

namespace gradwire::testing {
namespace {

class DeviceHook : public DeviceTest {
 protected:
  /// Runs `steps` on both, with `change` to the gradients of each step; all updates, reports and skips are alike.
  static void compare(int ranks, const HookOptions& options, unsigned steps,
                      const std::function<void(int, unsigned, std::vector<Values>&)>& change = {}) {
    // What travels dense has NCCL's order of sums.
    const bool is_equal = ranks <= most_ranks_that_sum_like_local();
    HookOptions there = options;
    there.space = Space::device;
    const std::vector<Communicator> others = make_device_ranks(ranks);
    spawn_on_devices(make_local(ranks), [&](Communicator& comm) {
      Trainer on_host(comm, options);
      Trainer on_device(others[static_cast<std::size_t>(comm.rank())], there);
      for (unsigned step = 0; step < steps; ++step) {
        std::vector<Values> gradients = gradients_of(comm.rank(), step);
        if (change) change(comm.rank(), step, gradients);
        const auto expected = on_host.step(gradients);
        const auto found = on_device.step(gradients);
        for (std::size_t p = 0; p < expected.size(); ++p) {
          const ParamInfo info = params()[p];
          ASSERT_TRUE(is_equal ? found[p] == expected[p] : are_close(found[p], expected[p], info.dtype))
              << "step " << step << ", " << info.name;
        }
        const StepReport a = on_host.hook().report();
        const StepReport b = on_device.hook().report();
        ASSERT_EQ(b.skipped, a.skipped) << "step " << step;
        ASSERT_EQ(b.dense_fallbacks, a.dense_fallbacks) << "step " << step;
        for (std::size_t p = 0; p < a.params.size(); ++p)
          ASSERT_NEAR(b.params[p].residual_norm, a.params[p].residual_norm, is_equal ? 0 : 1e-4) << step << ' ' << p;
      }
    });
  }
};

TEST_F(DeviceHook, GivesTheHostsUpdates) {
  GRADWIRE_NEEDS_RANKS(7);
  for (const int ranks : {1, 2, 3, 4, 7}) {
    SCOPED_TRACE(ranks);
    compare(ranks, options_of(Space::host), 3);
  }
}

TEST_F(DeviceHook, DrivenByItsCaller) {
  GRADWIRE_NEEDS_RANKS(2);
  HookOptions options = options_of(Space::host);
  options.library_thread = false;
  options.average = false;
  compare(2, options, 2);
}

/// A hook stays on the device on which it was made, whichever its callers have.
TEST_F(DeviceHook, CalledWhereAnotherDeviceIsCurrent) {
  GRADWIRE_NEEDS_RANKS(2);
  GRADWIRE_NEEDS_DEVICES(2);
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / fmt::format("gwo{}", getpid());
  std::filesystem::create_directories(folder);
  for (const bool library_thread : {true, false}) {
    for (const std::string spec : {"q4", "powersgd(rank=2)", "topk(0.1)+dgc(0.9)", "q2+ef(storage=bf16)+decay(0.5)"}) {
      SCOPED_TRACE(spec);
      HookOptions options = options_of(Space::host);
      options.compressor = spec;
      HookOptions there = options;
      there.space = Space::device;
      there.library_thread = library_thread;
      const std::vector<Communicator> others = make_device_ranks(2);
      spawn_on_devices(make_local(2), [&](Communicator& comm) {
        Trainer on_host(comm, options);
        Trainer on_device(others[static_cast<std::size_t>(comm.rank())], there);
        const int calling = (device::current() + 1) % device::count();
        on_device.call_on(calling);
        for (unsigned step = 0; step < 3; ++step) {
          const std::vector<Values> gradients = gradients_of(comm.rank(), step);
          EXPECT_EQ(on_device.step(gradients), on_host.step(gradients)) << step;
          const device::Scope scope(calling);
          on_device.hook().rescale(2, 1);
          on_host.hook().rescale(2, 1);
          EXPECT_EQ(on_device.hook().report().params[0].residual_norm, on_host.hook().report().params[0].residual_norm);
          on_device.hook().save(folder.string());
          comm.barrier(deadline_after(std::chrono::seconds(60)));  // each reads what all have written
          on_device.hook().load(folder.string());
          EXPECT_EQ(device::current(), calling);
        }
      });
    }
  }
  std::filesystem::remove_all(folder);
}

TEST_F(DeviceHook, WithSchedules) {
  GRADWIRE_NEEDS_RANKS(3);
  HookOptions options = options_of(Space::host);
  options.compressor = "quantize(bits=3,round=stochastic)+warmup(1)+decay(0.5)";
  compare(3, options, 4);
  options.rule = "econtrol(0.2,storage=bf16)";
  compare(3, options, 4);
}

struct Way {
  std::string compressor;
  std::string rule;
};
/// Each rule, with state in each storage that it may have; dgc where much, little and (in dense steps) all is sent.
const std::vector<Way>& ways() {
  static const std::vector<Way> all = {{"f16", "none"},
                                       {"q4", "ef(storage=bf16)"},
                                       {"q2", "ef(storage=q8)"},
                                       {"topk(0.1)", "ef21"},
                                       {"q2", "ef21_sgdm(0.2)"},
                                       {"q2", "econtrol(0.1)"},
                                       {"topk(0.1)", "econtrol(0.1,storage=f16)"},
                                       {"quantize(bits=4,round=stochastic)", "diana(0.1)"},
                                       {"topk(0.1)", "dgc(0.9)"},
                                       {"topk(0.1)+warmup(2)", "dgc(0.9,nesterov=yes,storage=q8)"},
                                       {"q4", "dgc(0.9,masking=no)"},
                                       {"sign", "onebit_adam(2)"}};
  return all;
}

TEST_F(DeviceHook, WithEveryRule) {
  GRADWIRE_NEEDS_RANKS(2);
  const auto spoil = [](int rank, unsigned step, std::vector<Values>& gradients) {
    if (rank == 1 && step == 1) gradients[4].set(7, std::nanf(""));
  };
  for (const Way& way : ways()) {
    SCOPED_TRACE(way.rule);
    HookOptions options = options_of(Space::host);
    options.compressor = way.compressor;
    options.rule = way.rule;
    if (way.compressor.starts_with("topk")) options.algorithm = "gather_sum";  // auto differs from 3 ranks on
    for (const int ranks : {1, 2, 3, 7}) {
      // One bit of a sum that NCCL adds in another order can change what a rule chooses.
      if (ranks <= most_ranks_that_sum_like_local()) compare(ranks, options, 5, spoil);
    }
  }
}

TEST_F(DeviceHook, SkipsOrSendsDenseWhatIsNotFinite) {
  GRADWIRE_NEEDS_RANKS(3);
  const auto spoil = [](int rank, unsigned step, std::vector<Values>& gradients) {
    if (rank == 1 && step == 1) gradients[4].set(7, std::nanf(""));
  };
  HookOptions options = options_of(Space::host);
  compare(3, options, 3, spoil);
  options.non_finite = NonFinite::dense;
  compare(3, options, 3, spoil);
}

TEST_F(DeviceHook, FailsOnAllRanksWhereAGradientIsMissing) {
  GRADWIRE_NEEDS_RANKS(3);
  spawn_on_devices(make_device_ranks(3), [](Communicator& comm) {
    Trainer trainer(comm, options_of(Space::device));
    const std::size_t missing = comm.rank() == 2 ? 4 : ~std::size_t{0};
    try {
      (void)trainer.step(gradients_of(comm.rank(), 0), missing);
      ADD_FAILURE() << "a gradient was missing";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::invalid_argument);
    }
    (void)trainer.step(gradients_of(comm.rank(), 1));
  });
}

TEST_F(DeviceHook, WithLowRank) {
  GRADWIRE_NEEDS_RANKS(3);
  const auto spoil = [](int rank, unsigned step, std::vector<Values>& gradients) {
    if (rank == 1 && step == 1) gradients[4].set(7, std::nanf(""));
  };
  HookOptions options = options_of(Space::host);
  for (const std::string spec : {"powersgd(rank=2)", "powersgd(rank=4,rounds=1,factors=f16,min_ratio=0)",
                                 "powersgd(rank=1,start=1,fallback=q8)", "projection(rank=3,refresh=2)"}) {
    SCOPED_TRACE(spec);
    options.compressor = spec;
    for (const int ranks : {1, 2, 3}) compare(ranks, options, 4, spoil);
  }
}

/// Ranks add codes, and agree on their ranges on the device.
TEST_F(DeviceHook, WithCodesThatAddUp) {
  GRADWIRE_NEEDS_RANKS(3);
  const auto spoil = [](int rank, unsigned step, std::vector<Values>& gradients) {
    if (rank == 1 && step == 1) gradients[4].set(7, std::nanf(""));
  };
  HookOptions options = options_of(Space::host);
  for (const std::string spec : {"thc", "thc(8,block=128)", "randomk(0.1)"}) {
    SCOPED_TRACE(spec);
    options.compressor = spec;
    for (const int ranks : {1, 2, 3}) compare(ranks, options, 3, spoil);
  }
}

/// A state saved on a device is taken up by hooks on both.
TEST_F(DeviceHook, SavesWhatBothCanLoad) {
  GRADWIRE_NEEDS_RANKS(2);
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / fmt::format("gw{}", getpid());
  std::filesystem::create_directories(folder);
  std::vector<Way> all = ways();
  for (const char* const spec : {"q4", "powersgd(rank=2)", "powersgd(rank=2,rounds=1)", "projection(rank=2)"})
    all.push_back({spec, "ef"});
  for (const Way& way : all) {
    SCOPED_TRACE(way.compressor + ", " + way.rule);
    const auto options = [&](Space space) {
      HookOptions made = options_of(space);
      made.compressor = way.compressor;
      made.rule = way.rule;
      return made;
    };
    const std::vector<Communicator> host = make_local(2);
    const std::vector<Communicator> first = make_device_ranks(2);
    const std::vector<Communicator> second = make_device_ranks(2);
    spawn_on_devices(first, [&](Communicator& comm) {
      const auto rank = static_cast<std::size_t>(comm.rank());
      Trainer saver(comm, options(Space::device));
      (void)saver.step(gradients_of(comm.rank(), 0));
      saver.hook().rescale(2, 1);
      saver.hook().save(folder.string());
      Trainer on_host(host[rank], options(Space::host));
      Trainer on_device(second[rank], options(Space::device));
      on_host.hook().load(folder.string());
      on_device.hook().load(folder.string());
      const auto expected = saver.step(gradients_of(comm.rank(), 1));
      EXPECT_EQ(on_host.step(gradients_of(comm.rank(), 1)), expected);
      EXPECT_EQ(on_device.step(gradients_of(comm.rank(), 1)), expected);
    });
  }
  std::filesystem::remove_all(folder);
}

TEST_F(DeviceHook, RefusesWhatRunsOnHostsOnly) {
  const auto code = [](const std::function<void(HookOptions&)>& change) {
    HookOptions options = options_of(Space::device);
    change(options);
    try {
      const GradientHook made(make_device_ranks(1).front(), params(), options);
    } catch (const Error& error) {
      return error.code();
    }
    return Errc::ok;
  };
  EXPECT_EQ(code([](HookOptions&) {}), Errc::ok);
  EXPECT_EQ(code([](HookOptions& o) { o.rule = "ef(storage=quantize(bits=4,levels=learned))"; }), Errc::unsupported);
  EXPECT_EQ(code([](HookOptions& o) { o.rule = "dgc(0.9,clip=1)"; }), Errc::unsupported);
  EXPECT_EQ(code([](HookOptions& o) { o.compressor = "powersgd(rank=2,factors=q4|zstd)"; }), Errc::unsupported);
  EXPECT_EQ(code([](HookOptions& o) { o.compressor = "q4|zstd"; }), Errc::unsupported);
  EXPECT_EQ(code([](HookOptions& o) { o.compressor = "block_topk(0.1)|q4"; }), Errc::unsupported);
  const auto with_candidate = [](HookOptions& o) { o.planning.candidates = {"q4|zstd"}; };
  EXPECT_EQ(code([&](HookOptions& o) { with_candidate(o), o.planning.policy = "lgreco"; }), Errc::unsupported);
  EXPECT_EQ(code([&](HookOptions& o) { with_candidate(o), o.planning.trace = "/dev/null"; }), Errc::unsupported);
  EXPECT_EQ(code([](HookOptions& o) { o.planning.policy = "lgreco"; }), Errc::ok);
}

TEST_F(DeviceHook, RefusesGradientsOfTheOtherKind) {
  spawn_on_devices(make_device_ranks(1), [](Communicator& comm) {
    GradientHook hook(comm, params(), options_of(Space::device));
    const device::Stream stream;
    Values host(40, DType::f32);
    const OnDevice there(40 * sizeof(float));
    const auto code = [&](Tensor gradient, StreamRef on) {
      try {
        hook.ready(ParamId{2}, gradient, on);
      } catch (const Error& error) {
        return error.code();
      }
      return Errc::ok;
    };
    EXPECT_EQ(code(host.tensor(), StreamRef::host()), Errc::invalid_argument);
    EXPECT_EQ(code(there.tensor(40), StreamRef::host()), Errc::invalid_argument);
    EXPECT_EQ(code({there.data() + 2, 40, DType::f32, Space::device}, stream.ref()), Errc::invalid_argument);
    EXPECT_EQ(code(there.tensor(40), stream.ref()), Errc::ok);
  });
}

}  // namespace
}  // namespace gradwire::testing
