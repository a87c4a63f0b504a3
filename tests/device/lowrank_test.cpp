// Low rank between ranks of one device or several: results, residuals and warm starts are those of ranks on the host,
// bit for bit, whose law the rank suites test.
#include <functional>

#include "device/device_ranks.hpp"
#include "device/device_support.hpp"
#include "support/test_name.hpp"
#ifdef GRADWIRE_DEVICE_MODEL
#include "device_model/model.hpp"
#endif

#include "gradwire/allreduce.hpp"

namespace gradwire::testing {
namespace {

struct Shape {
  std::vector<std::size_t> extents;
  DType dtype;
};
const Shape kShapes[] = {{{1, 37}, DType::f32},       {{37, 1}, DType::f16},   {{3, 5}, DType::bf16},
                         {{16, 8, 3, 3}, DType::f32}, {{0, 5}, DType::f32},    {{1, 1}, DType::f32},
                         {{130, 67}, DType::f32},     {{9, 1100}, DType::f16}, {{300, 5}, DType::f32}};

std::size_t count_of(const Shape& shape) {
  std::size_t count = 1;
  for (const std::size_t extent : shape.extents) count *= extent;
  return count;
}

struct Case {
  std::string spec;
  int ranks;
  int ranks_per_node = 0;
};

std::vector<BucketItem> items_of(const std::string& spec) {
  std::vector<BucketItem> items;
  for (const Shape& shape : kShapes)
    items.push_back({ParamId{static_cast<std::uint32_t>(items.size() + 1)}, count_of(shape), shape.dtype,
                     make_compressor(spec), "", shape.extents});
  return items;
}

std::vector<Values> inputs_of(int rank, std::uint64_t step) {
  std::vector<Values> inputs;
  for (const Shape& shape : kShapes)
    inputs.emplace_back(
        normal_gradients(count_of(shape), static_cast<unsigned>(100 * rank) + static_cast<unsigned>(step)),
        shape.dtype);
  return inputs;
}

AllreduceOptions options_of(Space space) {
  AllreduceOptions options;
  options.space = space;
  options.segment_bytes = 1024;  // several segments a round
  options.timeout = std::chrono::seconds(60);
  return options;
}

/// Tensors and then residuals, and, behind them, what the operation keeps of each item.
struct Outcome {
  std::vector<std::vector<std::byte>> values;
  std::vector<std::string> kept;
  Errc code = Errc::ok;
  bool operator==(const Outcome&) const = default;
};

/// One rank's operation on either memory.
class Runs {
 public:
  Runs(const Communicator& comm, const std::string& spec, Space space, std::uint32_t number = 1)
      : space_(space),
        operation_(comm, items_of(spec), Slot{number}, options_of(space)),
        workspace_(operation_.workspace_bytes(), space) {
    if (space == Space::device) stream_.emplace();
  }

  [[nodiscard]] PersistentAllreduce& operation() { return operation_; }

  Outcome run(std::vector<Values> inputs, std::uint64_t step) {
    Outcome outcome;
    const auto wait = [&](std::span<const ItemBuffers> buffers, StreamRef stream) {
      try {
        operation_.start(buffers, workspace_.bytes(), step, stream).wait();
      } catch (const Error& error) {
        outcome.code = error.code();
      }
    };
    std::vector<ItemBuffers> buffers;
    std::vector<Values> residuals;
    std::vector<OnDevice> there;
    for (Values& input : inputs) {
      residuals.emplace_back(input.tensor().count, DType::f32);
      if (space_ == Space::host) {
        buffers.push_back({input.tensor(), residuals.back().tensor()});
        continue;
      }
      const ConstTensor x = input.tensor();
      const OnDevice& tensor = there.emplace_back(x, stream_->ref(), size_of(x.dtype));
      buffers.push_back({tensor.tensor(x.count, x.dtype), {}});
    }
    for (std::size_t i = 0; i < buffers.size() && space_ == Space::device; ++i)
      buffers[i].residual = there.emplace_back(count_of(kShapes[i]) * sizeof(float)).tensor(count_of(kShapes[i]));
    wait(buffers, space_ == Space::host ? StreamRef::host() : stream_->ref());
    if (outcome.code != Errc::ok) return outcome;
    for (Values& each : inputs) {
      if (space_ == Space::host) outcome.values.push_back(bytes_of(each.tensor()));
    }
    for (Values& each : residuals) {
      if (space_ == Space::host) outcome.values.push_back(bytes_of(each.tensor()));
    }
    for (const OnDevice& each : there) outcome.values.push_back(each.read(stream_->ref()));
    for (std::size_t i = 0; i < inputs.size(); ++i) outcome.kept.push_back(operation_.memory(i));
    return outcome;
  }

 private:
  Space space_;
  std::optional<device::Stream> stream_;
  PersistentAllreduce operation_;
  Buffer workspace_;
};

void expect_equal(const Outcome& found, const Outcome& expected, std::uint64_t step) {
  ASSERT_EQ(found.code, expected.code) << "step " << step;
  for (std::size_t i = 0; i < expected.values.size(); ++i)
    EXPECT_EQ(found.values[i], expected.values[i]) << "step " << step << ", memory " << i;
  for (std::size_t i = 0; i < expected.kept.size(); ++i)
    EXPECT_EQ(found.kept[i], expected.kept[i]) << "step " << step << ", warm start " << i;
}

/// Ranks that have both kinds of memory, which different transports may reach.
class Ranks {
 public:
  explicit Ranks(int ranks, int ranks_per_node = 0)
      : host_(make_local(ranks, ranks_per_node)), device_(make_device_ranks(ranks, ranks_per_node)) {}

  void run(const std::function<void(const Communicator& host, const Communicator& device)>& each) const {
    spawn_on_devices(host_, [&](Communicator& comm) { each(comm, device_[static_cast<std::size_t>(comm.rank())]); });
  }

 private:
  std::vector<Communicator> host_;
  std::vector<Communicator> device_;
};

class DeviceLowRank : public DeviceTest, public ::testing::WithParamInterface<Case> {};

TEST_P(DeviceLowRank, GivesTheHostsBits) {
  GRADWIRE_NEEDS_RANKS(GetParam().ranks);
  const Ranks ranks(GetParam().ranks, GetParam().ranks_per_node);
  ranks.run([](const Communicator& host, const Communicator& comm) {
    Runs on_host(host, GetParam().spec, Space::host);
    Runs on_device(comm, GetParam().spec, Space::device);
    for (std::uint64_t step = 0; step < 3; ++step) {
      const Outcome expected = on_host.run(inputs_of(comm.rank(), step), step);
      EXPECT_EQ(expected.code, Errc::ok);
      expect_equal(on_device.run(inputs_of(comm.rank(), step), step), expected, step);
    }
  });
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const int ranks : {1, 2, 3}) {
    for (const std::string_view spec :
         {"powersgd(1)", "powersgd(rank=2,iterations=2)", "powersgd(rank=4,factors=f16)", "powersgd(rank=3,rounds=1)",
          "powersgd(rank=2,start=2)", "powersgd(rank=5,rounds=1,start=1,factors=q8)",
          "projection(rank=4,refresh=2,factors=bf16)"})
      all.push_back({std::string(spec), ranks});
  }
  all.push_back({"powersgd(rank=2)", 7});
  all.push_back({"powersgd(rank=2)", 4, 2});
  return all;
}

std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  return as_test_name(fmt::format("{}_{}_{}", info.param.spec, info.param.ranks, info.param.ranks_per_node));
}

INSTANTIATE_TEST_SUITE_P(All, DeviceLowRank, ::testing::ValuesIn(cases()), case_name);

class DeviceLowRankRuns : public DeviceTest {};

/// Nothing to find at first, later too many columns to find it with.
TEST_F(DeviceLowRankRuns, DrawTheHostsDirections) {
  GRADWIRE_NEEDS_RANKS(3);
  const auto inputs = [](std::uint64_t step) {
    std::vector<Values> all;
    for (const Shape& shape : kShapes)
      all.emplace_back(std::vector<float>(count_of(shape), step < 2 ? 0.0F : 1.0F), shape.dtype);
    return all;
  };
  Ranks(3).run([&](const Communicator& host, const Communicator& comm) {
    Runs on_host(host, "powersgd(rank=3)", Space::host);
    Runs on_device(comm, "powersgd(rank=3)", Space::device);
    for (std::uint64_t step = 0; step < 4; ++step)
      expect_equal(on_device.run(inputs(step), step), on_host.run(inputs(step), step), step);
  });
}

/// A rank's NaN is a verdict on all of them, names its parameter, and leaves the warm start as it was.
TEST_F(DeviceLowRankRuns, LeaveNoTraceOfNaN) {
  GRADWIRE_NEEDS_RANKS(3);
  for (const std::string spec : {"powersgd(rank=2)", "powersgd(rank=2,rounds=1)", "projection(rank=2,refresh=2)",
                                 "powersgd(rank=2,factors=q8)", "powersgd(rank=2,start=2)"}) {
    SCOPED_TRACE(spec);
    Ranks(3).run([&](const Communicator& host, const Communicator& comm) {
      Runs clean(host, spec, Space::host);
      Runs spoilt(comm, spec, Space::device);
      for (std::uint64_t step = 0; step < 4; ++step) {
        std::vector<Values> bad = inputs_of(comm.rank(), step);
        if (comm.rank() == 1) bad[6].set(500, step % 2 == 0 ? std::nanf("") : HUGE_VALF);
        EXPECT_EQ(spoilt.run(std::move(bad), step).code, Errc::non_finite);
        EXPECT_TRUE(spoilt.operation().in_step());
        expect_equal(spoilt.run(inputs_of(comm.rank(), step), step), clean.run(inputs_of(comm.rank(), step), step),
                     step);
      }
    });
  }
}

TEST_F(DeviceLowRankRuns, NameTheParameterOfNaN) {
  GRADWIRE_NEEDS_RANKS(2);
  Ranks(2).run([](const Communicator&, const Communicator& comm) {
    Runs runs(comm, "powersgd(rank=2)", Space::device);
    const Buffer workspace(runs.operation().workspace_bytes(), Space::device);
    const device::Stream stream;
    std::vector<OnDevice> there;
    std::vector<ItemBuffers> buffers;
    for (Values& input : inputs_of(comm.rank(), 0)) {
      if (there.size() == 6 && comm.rank() == 1) input.set(7, std::nanf(""));
      const ConstTensor x = input.tensor();
      buffers.push_back({there.emplace_back(x, stream.ref()).tensor(x.count, x.dtype), {}});
    }
    try {
      runs.operation().start(buffers, workspace.bytes(), 0, stream.ref()).wait();
      ADD_FAILURE() << "NaN was summed";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::non_finite);
      EXPECT_NE(std::string(error.what()).find("parameter 7 "), std::string::npos) << error.what();
    }
  });
}

#ifdef GRADWIRE_DEVICE_MODEL
TEST_F(DeviceLowRankRuns, NeitherWaitNorAllocateInSteadyState) {
  for (const char* const spec : {"powersgd(rank=2)", "powersgd(rank=2,rounds=1,factors=q8)"}) {
    Communicator comm = make_local(1).front();
    PersistentAllreduce operation(comm, items_of(spec), Slot{1}, options_of(Space::device));
    const Buffer workspace(operation.workspace_bytes(), Space::device);
    const device::Stream stream;
    std::vector<OnDevice> there;
    std::vector<ItemBuffers> buffers;
    for (const Values& input : inputs_of(0, 0)) {
      const ConstTensor x = input.tensor();
      const Tensor residual = there.emplace_back(x.count * sizeof(float)).tensor(x.count);
      buffers.push_back({there.emplace_back(x, stream.ref()).tensor(x.count, x.dtype), residual});
    }
    device_model::Counters before{};
    for (unsigned step = 0; step < 6; ++step) {
      operation.start(buffers, workspace.bytes(), step, stream.ref()).wait();
      if (step == 1) before = device_model::counters();
    }
    const device_model::Counters after = device_model::counters();
    EXPECT_EQ(after.allocations, before.allocations) << spec;
    EXPECT_EQ(after.synchronisations, before.synchronisations) << spec;
  }
}
#endif

/// Warm starts of either memory go on in both; of another rank's columns too.
TEST_F(DeviceLowRankRuns, GoOnFromWhatEitherHasKept) {
  GRADWIRE_NEEDS_RANKS(3);
  for (const std::string spec : {"powersgd(rank=2)", "powersgd(rank=3,rounds=1)", "projection(rank=2,refresh=2)"}) {
    SCOPED_TRACE(spec);
    Ranks(2).run([&](const Communicator& local, const Communicator& comm) {
      Runs host(local, spec, Space::host);
      (void)host.run(inputs_of(comm.rank(), 0), 0);
      std::vector<std::string> kept;
      for (std::size_t i = 0; i < std::size(kShapes); ++i) kept.push_back(host.operation().memory(i));
      const Outcome expected = host.run(inputs_of(comm.rank(), 1), 1);
      Runs device(comm, spec, Space::device);
      for (std::size_t i = 0; i < kept.size(); ++i) device.operation().set_memory(i, kept[i]);
      for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_EQ(device.operation().memory(i), kept[i]);
      expect_equal(device.run(inputs_of(comm.rank(), 1), 1), expected, 1);
      const std::string wider = spec.substr(0, spec.find('=') + 1) + "5" + spec.substr(spec.find('=') + 2);
      Runs wider_host(local, wider, Space::host, 2);
      Runs wider_device(comm, wider, Space::device, 2);
      for (std::size_t i = 0; i < kept.size(); ++i) {
        wider_host.operation().adopt_memory(i, device.operation().memory(i), make_compressor(spec));
        wider_device.operation().adopt_memory(i, device.operation().memory(i), make_compressor(spec));
      }
      expect_equal(wider_device.run(inputs_of(comm.rank(), 2), 2), wider_host.run(inputs_of(comm.rank(), 2), 2), 2);
    });
  }
}

}  // namespace
}  // namespace gradwire::testing
