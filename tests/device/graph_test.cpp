// What a step launches can be captured in a CUDA graph, and launched again on other values: nothing in it waits on the
// host, allocates outside of a stream's order, or reads a size back.
#include <cuda_runtime_api.h>

#include "base/cuda.hpp"
#include "compress/vector_ops.hpp"
#include "device/device_support.hpp"
#include "plan/device_measurement.hpp"
#include "support/test_name.hpp"

#include "gradwire/plan.hpp"

namespace gradwire::testing {
namespace {

class Graphs : public DeviceTest, public ::testing::WithParamInterface<std::string> {};

/// A graph of what `launch` puts on the stream.
class Captured {
 public:
  template <class Launch>
  Captured(StreamRef stream, const Launch& launch) {
    const cudaStream_t native = cuda::native(stream);
    cuda::check(cudaStreamBeginCapture(native, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    launch();
    cudaGraph_t graph = nullptr;
    cuda::check(cudaStreamEndCapture(native, &graph), "cudaStreamEndCapture");
    cuda::check(cudaGraphInstantiate(&executable_, graph, 0), "cudaGraphInstantiate");
    cuda::check(cudaGraphDestroy(graph), "cudaGraphDestroy");
  }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  ~Captured() { (void)cudaGraphExecDestroy(executable_); }

  void launch(StreamRef stream) const {
    cuda::check(cudaGraphLaunch(executable_, cuda::native(stream)), "cudaGraphLaunch");
  }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

/// Error feedback's step: x = g / n + e, frame and residual, y = decoded, NaN looked for.
TEST_P(Graphs, HoldAStep) {
  constexpr std::size_t kCount = 40'960;
  const Compressor compressor = make_compressor(GetParam());
  ASSERT_TRUE(compressor.traits().on_device);
  const device::Stream own;
  const StreamRef stream = own.ref();
  const OnDevice gradient(kCount * sizeof(float));
  const OnDevice owed(kCount * sizeof(float));
  const OnDevice x(kCount * sizeof(float));
  const OnDevice y(kCount * sizeof(float));
  const OnDevice flag(sizeof(std::uint32_t));
  const OnDevice frame(compressor.max_frame_size(kCount, DType::f32));
  const RandomKey key{1, 2, ParamId{3}, 0};
  device::zero(owed.data(), kCount * sizeof(float), stream);
  device::zero(flag.data(), sizeof(std::uint32_t), stream);
  device::wait(stream);
  const Captured step(stream, [&] {
    ops::scale_add(gradient.tensor(kCount), 0.25F, owed.tensor(kCount), x.tensor(kCount), stream);
    (void)compressor.encode(x.tensor(kCount), frame.bytes(), owed.tensor(kCount), key, stream);
    (void)compressor.decode(frame.bytes(), y.tensor(kCount), Write::assign, stream);
    ops::find_non_finite(ops::FindNonFinite{y.tensor(kCount), reinterpret_cast<std::uint32_t*>(flag.data())}, stream);
  });

  std::vector<float> residual(kCount);
  std::vector<float> sent(kCount);
  std::vector<float> decoded(kCount);
  Buffer host_frame(frame.bytes().size);
  for (unsigned round = 0; round < 3; ++round) {
    const std::vector<float> values = normal_gradients(kCount, 40 + round);
    device::copy(gradient.data(), values.data(), kCount * sizeof(float), stream);
    step.launch(stream);
    ops::scale_add({values.data(), kCount}, 0.25F, {residual.data(), kCount}, {sent.data(), kCount}, StreamRef::host());
    const std::size_t size =
        compressor.encode({sent.data(), kCount}, host_frame.bytes(), {residual.data(), kCount}, key);
    (void)compressor.decode({host_frame.data(), size}, {decoded.data(), kCount}, Write::assign);
    ASSERT_EQ(y.read(stream), bytes_of({decoded.data(), kCount})) << "round " << round;
    ASSERT_EQ(owed.read(stream), bytes_of({residual.data(), kCount})) << "round " << round;
  }
}

/// What a rank of integer_sum launches, between its messages: ranges, codes, residual, sum.
class GraphsOfCodes : public DeviceTest, public ::testing::WithParamInterface<std::string> {};

TEST_P(GraphsOfCodes, HoldAStep) {
  constexpr std::size_t kCount = 40'961;
  const Compressor compressor = make_compressor(GetParam());
  const IntegerCoder& coder = *compressor.integer_coder();
  const CodingKeys keys{{1, 2, ParamId{3}, 0}, {4, 2, ParamId{3}, 0}};
  const device::Stream own;
  const StreamRef stream = own.ref();
  const OnDevice x(kCount * sizeof(float));
  const OnDevice owed(kCount * sizeof(float));
  const OnDevice y(kCount * sizeof(float));
  const std::size_t ranges = coder.ranges(kCount);
  const OnDevice common((ranges + 1) * sizeof(float));
  const std::size_t codes = coder.codes(kCount);
  const DType sum = coder.sum_dtype(1);
  const OnDevice coded(codes * size_of(sum));
  auto* const found = reinterpret_cast<float*>(common.data());
  const Captured step(stream, [&] {
    coder.find_ranges(x.tensor(kCount), found, stream);
    if (ranges > 0) ops::largest_of_rows(found, 1, ranges, {found, ranges, DType::f32, Space::device}, stream);
    coder.encode(x.tensor(kCount), found, coded.tensor(codes, sum), owed.tensor(kCount), keys, stream);
    coder.decode(coded.tensor(codes, sum), 1, found, y.tensor(kCount), keys.shared, stream);
  });
  std::vector<float> residual(kCount);
  std::vector<float> decoded(kCount);
  std::vector<float> host_ranges(ranges + 1);
  Buffer host_codes(codes * size_of(sum));
  for (unsigned round = 0; round < 3; ++round) {
    const std::vector<float> values = normal_gradients(kCount, 40 + round);
    device::copy(x.data(), values.data(), kCount * sizeof(float), stream);
    step.launch(stream);
    coder.find_ranges({values.data(), kCount}, host_ranges.data(), StreamRef::host());
    const Tensor on_host{host_codes.data(), codes, sum};
    coder.encode({values.data(), kCount}, host_ranges.data(), on_host, {residual.data(), kCount}, keys,
                 StreamRef::host());
    coder.decode(on_host, 1, host_ranges.data(), {decoded.data(), kCount}, keys.shared, StreamRef::host());
    ASSERT_EQ(y.read(stream), bytes_of({decoded.data(), kCount})) << "round " << round;
    ASSERT_EQ(owed.read(stream), bytes_of({residual.data(), kCount})) << "round " << round;
  }
}

class BatchGraphs : public Graphs {};

/// Jobs travel with a launch's parameters, so that a graph has them after the list is gone.
TEST_P(BatchGraphs, HoldABatch) {
  constexpr std::size_t kJobs = 3;
  constexpr std::size_t kCount = 2048;
  const Compressor compressor = make_compressor(GetParam());
  const BatchCodec* const codec = compressor.batch_codec();
  ASSERT_NE(codec, nullptr);
  const device::Stream own;
  const StreamRef stream = own.ref();
  const std::size_t size = compressor.max_frame_size(kCount, DType::f32);
  const OnDevice x(kJobs * kCount * sizeof(float));
  const OnDevice y(kJobs * kCount * sizeof(float));
  const OnDevice frames(kJobs * size);
  const Captured step(stream, [&] {
    std::vector<EncodeJob> encodes;
    std::vector<DecodeJob> decodes;
    for (std::size_t i = 0; i < kJobs; ++i) {
      const Bytes frame = frames.bytes().slice(i * size, size);
      encodes.push_back(
          {x.tensor(kJobs * kCount).slice(i * kCount, kCount), frame, {}, {1, 2, ParamId{3}, i * kCount}});
      decodes.push_back({frame, y.tensor(kJobs * kCount).slice(i * kCount, kCount)});
    }
    codec->encode_batch(encodes, stream);
    codec->decode_batch(decodes, stream);
  });
  for (unsigned round = 0; round < 3; ++round) {
    const std::vector<float> values = normal_gradients(kJobs * kCount, 40 + round);
    std::vector<float> decoded(kJobs * kCount);
    Buffer frame(size);
    device::copy(x.data(), values.data(), kJobs * kCount * sizeof(float), stream);
    step.launch(stream);
    for (std::size_t i = 0; i < kJobs; ++i) {
      (void)compressor.encode({values.data() + i * kCount, kCount}, frame.bytes(), {}, {1, 2, ParamId{3}, i * kCount});
      (void)compressor.decode(frame.bytes(), {decoded.data() + i * kCount, kCount}, Write::assign);
    }
    ASSERT_EQ(y.read(stream), bytes_of({decoded.data(), kJobs * kCount})) << "round " << round;
  }
}

using Graph = DeviceTest;

/// So does what a step of planning measures, with candidates of all families.
TEST_F(Graph, HoldsAMeasurement) {
  constexpr std::size_t kCount = 9600;
  std::vector<std::string> specs = default_candidates();
  for (const char* const spec : {"none", "topk(0.01)", "sign", "q3(norm=l2)", "rotate(q4)"}) specs.emplace_back(spec);
  DeviceMeasurement measurement({"w", kCount, {96, 100}, 0, specs}, true);
  const device::Stream own;
  const StreamRef stream = own.ref();
  const std::vector<float> x = normal_gradients(kCount, 1);
  const OnDevice there(ConstTensor(x.data(), kCount), stream);
  const device::Pinned first(measurement.result_bytes());
  const device::Pinned second(measurement.result_bytes());
  measurement.launch(there.tensor(kCount), {}, first.data(), stream);
  const Captured again(stream, [&] { measurement.launch(there.tensor(kCount), {}, second.data(), stream); });
  again.launch(stream);
  device::wait(stream);
  EXPECT_EQ(to_json(Table{{measurement.finish(second.data())}}), to_json(Table{{measurement.finish(first.data())}}));
}

std::string test_name(const ::testing::TestParamInfo<std::string>& info) { return as_test_name(info.param); }

INSTANTIATE_TEST_SUITE_P(All, Graphs,
                         ::testing::Values("none", "f16", "q4", "quantize(bits=3,bucket=96,norm=l2,round=stochastic)",
                                           "ternary", "sign", "natural", "f8", "mx4", "nvfp4", "rotate(q4)",
                                           "topk(0.01)", "topk(0.01)|q4", "topk(0.1,select=sampled)", "block_topk(0.1)",
                                           "randomk(0.1)"),
                         test_name);
INSTANTIATE_TEST_SUITE_P(All, BatchGraphs,
                         ::testing::Values("none", "f16", "q4", "quantize(bits=3,bucket=96,norm=l2,round=stochastic)",
                                           "ternary", "natural", "f8", "mx4", "nvfp4"),
                         test_name);

INSTANTIATE_TEST_SUITE_P(All, GraphsOfCodes, ::testing::Values("thc", "thc(8,block=8192)", "randomk(0.1)"), test_name);

}  // namespace
}  // namespace gradwire::testing
