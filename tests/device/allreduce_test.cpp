// Ranks that share a device: results and residuals are those of ranks on the host, bit for bit, whose law the rank
// suites test.
#include "gradwire/allreduce.hpp"

#include <atomic>
#include <functional>
#include <mutex>

#include "device/allreduce_runs.hpp"
#include "device/device_ranks.hpp"
#include "support/test_name.hpp"

namespace gradwire::testing {
namespace {

class DeviceAllreduce : public DeviceTest, public ::testing::WithParamInterface<Case> {};

TEST_P(DeviceAllreduce, GivesTheHostsBits) {
  GRADWIRE_NEEDS_RANKS(GetParam().ranks);
  const Case& run = GetParam();
  std::vector<Memory> on_host(static_cast<std::size_t>(run.ranks));
  std::vector<Memory> on_device(on_host.size());
  spawn_on_devices(make_device_ranks(run.ranks, run.ranks_per_node), [&](Communicator& comm) {
    on_host[static_cast<std::size_t>(comm.rank())] = run_on_host(comm, run);
    on_device[static_cast<std::size_t>(comm.rank())] = run_on_device(comm, run);
  });
  // NCCL adds floats in an order of its own: close to what the host has, and the same on all ranks.
  const bool adds_floats = run.algorithm == "dense" || (run.algorithm == "integer_sum" && run.spec.starts_with("rand"));
  const bool is_equal = !adds_floats || run.ranks <= most_ranks_that_sum_like_local();
  for (std::size_t rank = 0; rank < on_host.size(); ++rank) {
    for (std::size_t i = 0; i < on_host[rank].size(); ++i) {
      const bool is_result = i % (2 * std::size(kShapes)) < std::size(kShapes);
      if (is_equal || is_result) {
        const Memory& expected = is_equal ? on_host[rank] : on_device[0];
        EXPECT_EQ(on_device[rank][i], expected[i]) << "rank " << rank << ", memory " << i;
      }
      const DType dtype = is_result ? kShapes[i % std::size(kShapes)].dtype : DType::f32;
      EXPECT_TRUE(are_close(on_device[rank][i], on_host[rank][i], dtype)) << "rank " << rank << ", memory " << i;
    }
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const int ranks : {1, 2, 3, 4, 7}) {
    for (const std::string_view spec : {"q4", "none", "quantize(bits=3,round=stochastic,norm=minmax)"}) {
      for (const std::string_view algorithm : {"scatter_reduce", "ring", "gather_sum"})
        all.push_back({std::string(algorithm), std::string(spec), ranks});
    }
    all.push_back({"dense", "none", ranks});
  }
  for (const int ranks : {3, 4, 7}) all.push_back({"hierarchical", "q4", ranks, 2});
  for (const std::string_view spec : {"topk(0.05)", "topk(0.1)|q4", "randomk(0.1)", "block_topk(0.2)|f16",
                                      "topk(0.1,select=sampled)", "adaptive_threshold(0.1)"})
    for (const int ranks : {1, 2, 3, 7}) all.push_back({"gather_sum", std::string(spec), ranks});
  for (const std::string_view spec :
       {"thc(4,block=256)", "thc(8,block=8192,p=0.001)", "randomk(0.1)", "randomk(k=700,scale=unbiased)"})
    for (const int ranks : {1, 2, 3, 7}) all.push_back({"integer_sum", std::string(spec), ranks});
  return all;
}

std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  return as_test_name(fmt::format("{}_{}_{}", info.param.algorithm, info.param.spec, info.param.ranks));
}

INSTANTIATE_TEST_SUITE_P(All, DeviceAllreduce, ::testing::ValuesIn(cases()), case_name);

class DeviceRuns : public DeviceTest {};

/// A rank's NaN is a verdict on all ranks, which stay in step.
TEST_F(DeviceRuns, RefuseNaNOnAllRanks) {
  GRADWIRE_NEEDS_RANKS(3);
  struct Refusing {
    std::string_view algorithm;
    std::string_view spec;
    float large = HUGE_VALF;
  };
  for (const auto& [algorithm, spec, large] :
       {Refusing{"scatter_reduce", "q4"}, Refusing{"ring", "q4"}, Refusing{"gather_sum", "q4"},
        Refusing{"dense", "none"}, Refusing{"integer_sum", "thc", 0x1p113F}, Refusing{"integer_sum", "randomk(k=2)"},
        Refusing{"integer_sum", "randomk(k=2,scale=unbiased)", 1e36F}}) {
    SCOPED_TRACE(fmt::format("{} {}", algorithm, spec));
    spawn_on_devices(make_device_ranks(3), [algorithm = algorithm, spec = spec, large = large](Communicator& comm) {
      constexpr std::size_t kCount = 5000;
      std::vector<BucketItem> items{{ParamId{1}, 10}, {ParamId{7}, kCount}};
      items[1].compressor = make_compressor(spec);
      if (algorithm == "integer_sum") items[0].compressor = items[1].compressor;
      PersistentAllreduce operation(comm, items, Slot{1}, options_of({std::string(algorithm), "", 3}));
      const Buffer workspace(operation.workspace_bytes(), Space::device);
      const device::Stream stream;
      const auto run = [&](float last) {
        std::vector<float> values(kCount, 1.0F);
        if (comm.rank() == 1) values.back() = last;
        const OnDevice first(values.data(), 10 * sizeof(float), stream.ref());
        const OnDevice second(values.data(), kCount * sizeof(float), stream.ref());
        const std::vector<ItemBuffers> buffers{{first.tensor(10), {}}, {second.tensor(kCount), {}}};
        operation.start(buffers, workspace.bytes(), 0, stream.ref()).wait();
      };
      for (const float bad : {std::nanf(""), HUGE_VALF, large}) {
        try {
          run(bad);
          ADD_FAILURE() << bad << " was summed";
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), Errc::non_finite);
          if (algorithm != "dense") {
            EXPECT_NE(std::string(error.what()).find("parameter 7"), std::string::npos) << error.what();
          }
        }
      }
      EXPECT_TRUE(operation.in_step());
      run(1.0F);
    });
  }
}

/// An operation stays on the device on which it was made, whoever starts it and whoever moves it on.
TEST_F(DeviceRuns, MovedOnWhereAnotherDeviceIsCurrent) {
  GRADWIRE_NEEDS_RANKS(3);
  GRADWIRE_NEEDS_DEVICES(2);
  for (const std::string algorithm : {"scatter_reduce", "ring", "gather_sum"}) {
    SCOPED_TRACE(algorithm);
    spawn_on_devices(make_device_ranks(3), [&](Communicator& comm) {
      constexpr std::size_t kCount = 5000;
      const std::vector<BucketItem> items{{ParamId{7}, kCount, DType::f32, make_compressor("rotate(q8)")}};
      PersistentAllreduce operation(comm, items, Slot{1}, options_of({algorithm, "", 3}));
      const Buffer workspace(operation.workspace_bytes(), Space::device);
      const Buffer x(kCount * sizeof(float), Space::device);
      const device::Stream stream;
      const device::Scope scope((device::current() + 1) % device::count());
      x.fill_zero();
      const std::vector<ItemBuffers> buffers{{x.tensor(kCount), {}}};
      const Work work = operation.start(buffers, workspace.bytes(), 0, stream.ref());
      std::thread([&] {
        device::use((comm.rank() + 1) % device::count());
        work.wait();
      }).join();
      std::vector<float> result(kCount, 1.0F);
      device::copy(result.data(), x.data(), kCount * sizeof(float), stream.ref());
      device::wait(stream.ref());
      EXPECT_EQ(result, std::vector<float>(kCount));
    });
  }
}

/// A rank that refuses takes part without memory.
void expect_refusal(const std::string& algorithm, const std::string& spec) {
  SCOPED_TRACE(fmt::format("{} {}", algorithm, spec));
  spawn_on_devices(make_device_ranks(3), [&](Communicator& comm) {
    const std::vector<BucketItem> items{{ParamId{7}, 5000, DType::f32, make_compressor(spec)}};
    PersistentAllreduce operation(comm, items, Slot{1}, options_of({algorithm, "", 3}));
    const Buffer workspace(operation.workspace_bytes(), Space::device);
    const device::Stream stream;
    const OnDevice x(5000 * sizeof(float));
    device::zero(x.data(), 5000 * sizeof(float), stream.ref());
    const bool refuses = comm.rank() == 2;
    const std::vector<ItemBuffers> buffers{{refuses ? Tensor{nullptr, 5000} : x.tensor(5000), {}}};
    const Verdict missing{Errc::invalid_argument, comm.rank(), ParamId{7}};
    const Work work =
        operation.start(buffers, workspace.bytes(), 0, stream.ref(), refuses ? std::optional(missing) : std::nullopt);
    EXPECT_EQ(code_of([&] { work.wait(); }), Errc::invalid_argument);
    device::zero(x.data(), 5000 * sizeof(float), stream.ref());
    const std::vector<ItemBuffers> whole{{x.tensor(5000), {}}};
    operation.start(whole, workspace.bytes(), 1, stream.ref()).wait();
  });
}

TEST_F(DeviceRuns, TakeARefusal) {
  GRADWIRE_NEEDS_RANKS(3);
  expect_refusal("scatter_reduce", "q4");
  expect_refusal("integer_sum", "thc");
  expect_refusal("integer_sum", "randomk(0.1)");
}

/// What a rank that gave up has in flight may still be used: it stays.
void keep(Buffer buffer) {
  static std::mutex mutex;
  static auto* const kept = new std::vector<Buffer>;
  const std::lock_guard lock(mutex);
  kept->push_back(std::move(buffer));
}

/// Where ranks draw alike, another step is another operation: all hear of it at the end.
TEST_F(DeviceRuns, FindRanksAtDifferentSteps) {
  GRADWIRE_NEEDS_RANKS(3);
  for (const std::string spec : {"thc", "randomk(0.1)"}) {
    spawn_on_devices(make_device_ranks(3), [&](Communicator& comm) {
      const std::vector<BucketItem> items{{ParamId{7}, 5000, DType::f32, make_compressor(spec)}};
      PersistentAllreduce operation(comm, items, Slot{1}, options_of({"auto", "", 3}));
      EXPECT_EQ(operation.algorithm(), "integer_sum");
      const device::Stream stream;
      Buffer workspace(operation.workspace_bytes(), Space::device);
      Buffer x(5000 * sizeof(float), Space::device);
      x.fill_zero();
      const std::vector<ItemBuffers> buffers{{x.tensor(5000), {}}};
      operation.start(buffers, workspace.bytes(), 0, stream.ref()).wait();
      const std::uint64_t step = comm.rank() == 1 ? 2 : 1;
      const Errc code = code_of([&] { operation.start(buffers, workspace.bytes(), step, stream.ref()).wait(); });
      EXPECT_TRUE(code == Errc::rank_mismatch || code == Errc::aborted) << static_cast<int>(code);
      EXPECT_FALSE(operation.in_step());
      device::wait(stream.ref());
      keep(std::move(x));
      keep(std::move(workspace));
    });
  }
}

TEST_F(DeviceRuns, SumInTheOrderOfStarts) {
  GRADWIRE_NEEDS_RANKS(3);
  spawn_on_devices(make_device_ranks(3), sum_in_the_order_of_starts);
}

/// Exchanges in two slots, which ranks wait for in different orders.
TEST_F(DeviceRuns, PostWhatNobodyWaitsForYet) {
  GRADWIRE_NEEDS_RANKS(2);
  spawn_on_devices(make_device_ranks(2), [](Communicator& comm) {
    constexpr std::size_t kBytes = 4096;
    const device::Stream stream;
    const int peer = 1 - comm.rank();
    const std::vector<std::byte> bytes(kBytes, static_cast<std::byte>(comm.rank() + 1));
    const OnDevice out(bytes.data(), kBytes, stream.ref());
    const OnDevice in[2] = {OnDevice(kBytes), OnDevice(kBytes)};
    std::vector<Work> works;
    for (std::uint32_t slot = 0; slot < 2; ++slot) {
      const Send send{out.bytes(), peer};
      const Recv recv{in[slot].bytes(), peer};
      works.push_back(comm.transport().exchange({&send, 1}, {&recv, 1}, Slot{slot}, stream.ref()));
    }
    const Deadline deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    works[comm.rank() == 0 ? 0 : 1].wait(deadline);
    works[comm.rank() == 0 ? 1 : 0].wait(deadline);
    for (const OnDevice& each : in)
      EXPECT_EQ(each.read(stream.ref()), std::vector<std::byte>(kBytes, static_cast<std::byte>(peer + 1)));
  });
}

/// One rank's messages of several devices, one after another.
TEST_F(DeviceRuns, ComeFromAnyDeviceThroughPinnedBuffers) {
  GRADWIRE_NEEDS_RANKS(2);
  GRADWIRE_NEEDS_DEVICES(2);
  if (make_device_ranks(1).front().transport().info().stream_ordered) GTEST_SKIP() << "NCCL has one device a rank";
  spawn_on_devices(make_device_ranks(2), [](Communicator& comm) {
    constexpr std::size_t kBytes = 4096;
    const int peer = 1 - comm.rank();
    for (unsigned round = 0; round < 6; ++round) {
      device::use((comm.rank() + static_cast<int>(round) % 3 % 2) % device::count());
      const device::Stream stream;
      const std::vector<std::byte> bytes(kBytes,
                                         static_cast<std::byte>(10 * round + static_cast<unsigned>(comm.rank())));
      const OnDevice out(bytes.data(), kBytes, stream.ref());
      const OnDevice in(kBytes);
      const Send send{out.bytes(), peer};
      const Recv recv{in.bytes(), peer};
      const Work work = comm.transport().exchange({&send, 1}, {&recv, 1}, Slot{1}, stream.ref());
      std::thread([&] { work.wait(std::chrono::steady_clock::now() + std::chrono::seconds(60)); }).join();
      const auto expected = static_cast<std::byte>(10 * round + static_cast<unsigned>(peer));
      EXPECT_EQ(in.read(stream.ref()), std::vector<std::byte>(kBytes, expected));
    }
  });
}

/// A rank that does not come to a second run: the others end at their deadline, or when the first of them has aborted.
void expect_deadline(const std::string& algorithm, int ranks) {
  SCOPED_TRACE(fmt::format("{} of {} ranks", algorithm, ranks));
  std::atomic<int> timeouts = 0;
  spawn_on_devices(make_device_ranks(ranks), [&](Communicator& comm) {
    constexpr std::size_t kCount = 5000;
    const std::vector<BucketItem> items{{ParamId{7}, kCount, DType::f32,
                                         make_compressor(algorithm == "dense"         ? "none"
                                                         : algorithm == "integer_sum" ? "thc"
                                                                                      : "q4")}};
    AllreduceOptions options = options_of({algorithm, "", ranks});
    options.timeout = std::chrono::seconds(2);
    PersistentAllreduce operation(comm, items, Slot{1}, options);
    const device::Stream stream;
    Buffer x(kCount * sizeof(float), Space::device);
    Buffer workspace(operation.workspace_bytes(), Space::device);
    x.fill_zero();
    const std::vector<ItemBuffers> buffers{{x.tensor(kCount), {}}};
    operation.start(buffers, workspace.bytes(), 0, stream.ref()).wait();
    if (comm.rank() != ranks - 1) {
      const Errc code = code_of([&] { operation.start(buffers, workspace.bytes(), 1, stream.ref()).wait(); });
      EXPECT_TRUE(code == Errc::timeout || code == Errc::aborted) << static_cast<int>(code);
      EXPECT_FALSE(operation.in_step());
      timeouts += code == Errc::timeout ? 1 : 0;
    }
    keep(std::move(x));
    keep(std::move(workspace));
  });
  EXPECT_GE(timeouts, 1);
}

TEST_F(DeviceRuns, EndAtTheirDeadline) {
  GRADWIRE_NEEDS_RANKS(7);
  for (const int ranks : {2, 3, 7}) {
    for (const std::string algorithm : {"scatter_reduce", "integer_sum"}) expect_deadline(algorithm, ranks);
  }
  for (const std::string algorithm : {"ring", "gather_sum", "dense"}) expect_deadline(algorithm, 3);
}

TEST_F(DeviceRuns, AreAllOnOneKindOfMemory) {
  spawn_on_devices(make_device_ranks(1), [](Communicator& comm) {
    const std::vector<BucketItem> items{{ParamId{7}, 100, DType::f32, make_compressor("q4")}};
    PersistentAllreduce operation(comm, items, Slot{1}, options_of({"scatter_reduce", "", 1}));
    const Buffer there(operation.workspace_bytes(), Space::device);
    const Buffer here(operation.workspace_bytes());
    const device::Stream stream;
    const OnDevice x(100 * sizeof(float));
    Values host(100, DType::f32);
    const auto start = [&](const ItemBuffers& buffers, Bytes workspace, StreamRef on) {
      return code_of([&] { (void)operation.start(std::span(&buffers, 1), workspace, 0, on); });
    };
    EXPECT_EQ(start({x.tensor(100), {}}, there.bytes(), StreamRef::host()), Errc::invalid_argument);
    EXPECT_EQ(start({x.tensor(100), {}}, here.bytes(), stream.ref()), Errc::invalid_argument);
    EXPECT_EQ(start({x.tensor(100), host.tensor()}, there.bytes(), stream.ref()), Errc::invalid_argument);
    EXPECT_EQ(start({host.tensor(), {}}, here.bytes(), stream.ref()), Errc::invalid_argument);
  });
}

/// thc, but for codes that are of hosts only, as other people's compressors may be.
class HostCodes {
 public:
  [[nodiscard]] std::string_view spec() const noexcept { return "host_codes"; }
  [[nodiscard]] CompressorTraits traits() const noexcept { return thc_.traits(); }
  [[nodiscard]] std::size_t max_frame_size(std::size_t n, DType t) const { return thc_.max_frame_size(n, t); }
  std::size_t encode(ConstTensor x, Bytes out, Tensor r, const RandomKey& k, StreamRef s) const {
    return thc_.encode(x, out, r, k, s);
  }
  std::size_t decode(ConstBytes in, Tensor y, Write w, StreamRef s) const { return thc_.decode(in, y, w, s); }
  [[nodiscard]] double error_bound(std::size_t n) const { return thc_.error_bound(n); }
  [[nodiscard]] const IntegerCoder* integer_coder() const noexcept { return coder_.get(); }

 private:
  class Coder final : public IntegerCoder {
   public:
    explicit Coder(const Compressor& thc) : thc_(thc) {}
    [[nodiscard]] std::size_t ranges(std::size_t n) const override { return thc_.integer_coder()->ranges(n); }
    void find_ranges(ConstTensor x, float* r, StreamRef s) const override {
      thc_.integer_coder()->find_ranges(x, r, s);
    }
    [[nodiscard]] DType sum_dtype(int ranks) const override { return thc_.integer_coder()->sum_dtype(ranks); }
    [[nodiscard]] std::size_t codes(std::size_t n) const override { return thc_.integer_coder()->codes(n); }
    void encode(ConstTensor x, const float* r, Tensor c, Tensor e, const CodingKeys& k, StreamRef s) const override {
      thc_.integer_coder()->encode(x, r, c, e, k, s);
    }
    void decode(ConstTensor c, int n, const float* r, Tensor y, const RandomKey& k, StreamRef s) const override {
      thc_.integer_coder()->decode(c, n, r, y, k, s);
    }

   private:
    Compressor thc_;
  };

  Compressor thc_ = make_compressor("thc");
  std::shared_ptr<const IntegerCoder> coder_ = std::make_shared<Coder>(thc_);
};

TEST_F(DeviceRuns, RefuseWhatRunsOnHostsOnly) {
  GRADWIRE_NEEDS_RANKS(2);
  spawn_on_devices(make_device_ranks(2), [](Communicator& comm) {
    const auto code = [&](const std::string& spec, const std::string& algorithm) {
      const std::vector<BucketItem> items{{ParamId{7}, 1000, DType::f32, make_compressor(spec), "", {10, 100}}};
      return code_of([&] { const PersistentAllreduce made(comm, items, Slot{1}, options_of({algorithm, "", 2})); });
    };
    EXPECT_EQ(code("q4|zstd", "scatter_reduce"), Errc::unsupported);
    EXPECT_EQ(code("topk(0.1)", "sparse_scatter"), Errc::unsupported);
    EXPECT_EQ(code("thc", "integer_sum"), Errc::ok);
    EXPECT_EQ(code("thc", "auto"), Errc::ok);
    EXPECT_EQ(code("powersgd(2)", "lowrank"), Errc::ok);
    EXPECT_EQ(code("q4", "auto"), Errc::ok);
    const std::vector<BucketItem> items{{ParamId{7}, 1000, DType::f32, HostCodes()}};
    EXPECT_EQ(PersistentAllreduce(comm, items, Slot{1}, options_of({"auto", "", 2})).algorithm(), "gather_sum");
    EXPECT_EQ(code_of([&] {
                const PersistentAllreduce made(comm, items, Slot{1}, options_of({"integer_sum", "", 2}));
              }),
              Errc::unsupported);
    const AllreduceOptions on_host = options_of({"auto", "", 2}, Space::host);
    EXPECT_EQ(PersistentAllreduce(comm, items, Slot{1}, on_host).algorithm(), "integer_sum");
  });
}

}  // namespace
}  // namespace gradwire::testing
