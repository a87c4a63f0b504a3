// Default streams: the legacy one and a thread's own, by name and as the handle 0. What is on them comes first, and
// what gradwire does itself is on streams of its own.
#include <cuda_runtime_api.h>

#include <cstring>
#include <thread>

#include "base/cuda.hpp"
#include "device/device_ranks.hpp"
#include "device/device_support.hpp"

#include "gradwire/allreduce.hpp"
#include "gradwire/hook.hpp"

namespace gradwire::testing {
namespace {

TEST(StreamRefs, NameTheDefaultStreamsAsCudaDoes) {
  EXPECT_EQ(StreamRef::legacy_default().native(), cudaStreamLegacy);
  EXPECT_EQ(StreamRef::per_thread_default().native(), cudaStreamPerThread);
  void* const zero = nullptr;
  EXPECT_EQ(StreamRef(zero).native(), cudaStreamLegacy);
  EXPECT_FALSE(StreamRef(zero).is_host());
  EXPECT_TRUE(StreamRef::host().is_host());
  EXPECT_TRUE(device::is_default(StreamRef(zero)));
  EXPECT_TRUE(device::is_default(StreamRef::per_thread_default()));
  EXPECT_FALSE(device::is_default(StreamRef::host()));
}

struct Default {
  std::string name;
  StreamRef (*stream)();
};
StreamRef of_zero() {
  void* const zero = nullptr;
  return StreamRef(zero);
}

class DefaultStreams : public DeviceTest, public ::testing::WithParamInterface<Default> {
 protected:
  static constexpr std::size_t kCount = 3000;

  /// What each rank puts on its default stream in a step, and does not wait for.
  class Input {
   public:
    Input(int rank, unsigned step)
        : values_(normal_gradients(kCount, 100 * static_cast<unsigned>(rank) + step)), pinned_(kCount * sizeof(float)) {
      std::memcpy(pinned_.data(), values_.data(), pinned_.size());
    }
    [[nodiscard]] const std::vector<float>& values() const { return values_; }
    /// On the device in the order of a stream; the host does not wait.
    void put(const OnDevice& there, StreamRef stream) const {
      device::copy(there.data(), pinned_.data(), pinned_.size(), stream);
    }

   private:
    std::vector<float> values_;
    device::Pinned pinned_;
  };

  /// What there is now, in the order of the default stream or of none.
  static std::vector<float> read(const OnDevice& there, StreamRef stream) {
    std::vector<float> values(kCount);
    device::copy(values.data(), there.data(), kCount * sizeof(float), stream);
    device::wait(stream);
    return values;
  }
};

INSTANTIATE_TEST_SUITE_P(All, DefaultStreams,
                         ::testing::Values(Default{"legacy", &StreamRef::legacy_default},
                                           Default{"per_thread", &StreamRef::per_thread_default},
                                           Default{"zero", &of_zero}),
                         [](const auto& made) { return made.param.name; });

/// Started by one thread, moved on by others, each with a default stream of its own, on another device.
TEST_P(DefaultStreams, CarryAnAllreduce) {
  GRADWIRE_NEEDS_RANKS(3);
  for (const std::string algorithm : {"scatter_reduce", "ring", "gather_sum", "dense"}) {
    SCOPED_TRACE(algorithm);
    const std::vector<Communicator> others = make_device_ranks(3);
    spawn_on_devices(make_local(3), [&](Communicator& host) {
      Communicator comm = others[static_cast<std::size_t>(host.rank())];
      const std::vector<BucketItem> items{
          {ParamId{1}, kCount, DType::f32, make_compressor(algorithm == "dense" ? "none" : "q4")}};
      AllreduceOptions options;
      options.algorithm = algorithm;
      options.segment_bytes = 1024;  // several segments
      PersistentAllreduce on_host(host, items, Slot{1}, options);
      options.space = Space::device;
      PersistentAllreduce on_device(comm, items, Slot{1}, options);
      const Buffer here(on_host.workspace_bytes());
      const Buffer there(on_device.workspace_bytes(), Space::device);
      const OnDevice x(kCount * sizeof(float));
      const StreamRef stream = GetParam().stream();
      for (unsigned step = 0; step < 3; ++step) {
        const Input input(comm.rank(), step);
        std::vector<float> expected = input.values();
        const std::vector<ItemBuffers> host_buffers{{{expected.data(), kCount}, {}}};
        on_host.start(host_buffers, here.bytes(), step, StreamRef::host()).wait();
        input.put(x, stream);
        const std::vector<ItemBuffers> buffers{{x.tensor(kCount), {}}};
        const Work work = on_device.start(buffers, there.bytes(), step, stream);
        for (bool done = false; !done;) {
          std::thread([&] {
            device::use((comm.rank() + 1) % device::count());
            done = work.done();
          }).join();
        }
        std::vector<float> found(kCount);
        device::copy_now(found.data(), x.data(), kCount * sizeof(float));  // there for whatever stream
        // NCCL adds in an order of its own.
        if (algorithm == "dense" && most_ranks_that_sum_like_local() < 3) {
          EXPECT_TRUE(are_close(bytes_of({found.data(), kCount}), bytes_of({expected.data(), kCount}), DType::f32));
        } else {
          EXPECT_EQ(found, expected) << "step " << step;
        }
      }
    });
  }
}

/// Called where another device is current: the default stream is that of the hook's device.
TEST_P(DefaultStreams, CarryAHooksGradients) {
  GRADWIRE_NEEDS_RANKS(2);
  for (const bool library_thread : {true, false}) {
    const std::vector<Communicator> others = make_device_ranks(2);
    spawn_on_devices(make_local(2), [&](Communicator& host) {
      const std::vector<ParamInfo> params{{ParamId{1}, "weight", {50, 60}, DType::f32},
                                          {ParamId{2}, "idle", {3000}, DType::f32}};
      HookOptions options;
      options.compressor = "q4";
      GradientHook on_host(host, params, options);
      options.space = Space::device;
      options.library_thread = library_thread;
      GradientHook on_device(others[static_cast<std::size_t>(host.rank())], params, options);
      const OnDevice weight(kCount * sizeof(float));
      const OnDevice idle(kCount * sizeof(float));
      const StreamRef stream = GetParam().stream();
      for (unsigned step = 0; step < 3; ++step) {
        const Input input(host.rank(), step);
        std::vector<float> expected = input.values();
        std::vector<float> zeros(kCount, 1.0F);
        on_host.ready(ParamId{1}, {expected.data(), kCount});
        on_host.unused(ParamId{2}, {zeros.data(), kCount});
        on_host.finish_step().wait();
        input.put(weight, stream);
        input.put(idle, stream);
        {
          const device::Scope scope((device::current() + 1) % device::count());
          on_device.ready(ParamId{1}, weight.tensor(kCount), stream);
          on_device.unused(ParamId{2}, idle.tensor(kCount), stream);
          on_device.finish_step().wait();
        }
        EXPECT_EQ(read(weight, stream), expected) << "step " << step;
        EXPECT_EQ(read(idle, stream), zeros) << "step " << step;
      }
    });
  }
}

/// A message of what is on a default stream, and, where Works are in the order of streams, behind it again.
TEST_P(DefaultStreams, CarryExchanges) {
  GRADWIRE_NEEDS_RANKS(2);
  spawn_on_devices(make_device_ranks(2), [&](Communicator& comm) {
    const StreamRef stream = GetParam().stream();
    const Input input(comm.rank(), 0);
    const OnDevice out(kCount * sizeof(float));
    const OnDevice in(kCount * sizeof(float));
    const int peer = 1 - comm.rank();
    input.put(out, stream);
    const Send send{out.bytes(), peer};
    const Recv recv{in.bytes(), peer};
    const Work work = comm.transport().exchange({&send, 1}, {&recv, 1}, Slot{1}, stream);
    if (comm.transport().info().stream_ordered) work.before(stream);
    if (!comm.transport().info().stream_ordered) work.wait();
    EXPECT_EQ(read(in, stream), Input(peer, 0).values());
    work.wait();
  });
}

}  // namespace
}  // namespace gradwire::testing
