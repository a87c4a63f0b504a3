#pragma once
#include <string>
#include <thread>
#include <vector>

#include "device/device_support.hpp"

#include "gradwire/allreduce.hpp"

/// \file The same runs on the host and on a device.
namespace gradwire::testing {

struct Shape {
  std::size_t count;
  DType dtype;
};
inline constexpr Shape kShapes[] = {
    {1000, DType::f32}, {1, DType::f32}, {3'333, DType::f16}, {0, DType::f32}, {2'049, DType::bf16}};

struct Case {
  std::string algorithm;
  std::string spec;
  int ranks;
  int ranks_per_node = 0;
};

inline std::vector<BucketItem> items_of(const std::string& spec) {
  std::vector<BucketItem> items;
  for (const Shape& shape : kShapes)
    items.push_back(
        {ParamId{static_cast<std::uint32_t>(items.size() + 1)}, shape.count, shape.dtype, make_compressor(spec)});
  return items;
}

/// What each rank has put in, and gets: tensors and then residuals.
using Memory = std::vector<std::vector<std::byte>>;

inline std::vector<Values> inputs_of(int rank, unsigned step) {
  std::vector<Values> inputs;
  for (const Shape& shape : kShapes)
    inputs.emplace_back(normal_gradients(shape.count, static_cast<unsigned>(rank) * 100 + step), shape.dtype);
  return inputs;
}

inline AllreduceOptions options_of(const Case& run, Space space = Space::device) {
  AllreduceOptions options;
  options.space = space;
  options.algorithm = run.algorithm;
  options.segment_bytes = 4096;  // several segments
  options.timeout = std::chrono::seconds(60);
  return options;
}

inline constexpr unsigned kSteps = 2;

inline Memory run_on_host(Communicator& comm, const Case& run) {
  PersistentAllreduce operation(comm, items_of(run.spec), Slot{1}, options_of(run, Space::host));
  const Buffer workspace(operation.workspace_bytes());
  Memory all;
  for (unsigned step = 0; step < kSteps; ++step) {
    std::vector<Values> tensors = inputs_of(comm.rank(), step);
    std::vector<Values> residuals;
    for (const Shape& shape : kShapes) residuals.emplace_back(shape.count, DType::f32);
    std::vector<ItemBuffers> buffers;
    for (std::size_t i = 0; i < tensors.size(); ++i) buffers.push_back({tensors[i].tensor(), residuals[i].tensor()});
    operation.start(buffers, workspace.bytes(), step, StreamRef::host()).wait();
    for (const Values& each : tensors) all.push_back(bytes_of(each.tensor()));
    for (const Values& each : residuals) all.push_back(bytes_of(each.tensor()));
  }
  return all;
}

inline Memory run_on_device(Communicator& comm, const Case& run) {
  PersistentAllreduce operation(comm, items_of(run.spec), Slot{1}, options_of(run));
  const Buffer workspace(operation.workspace_bytes(), Space::device);
  const device::Stream stream;
  Memory all;
  for (unsigned step = 0; step < kSteps; ++step) {
    const std::vector<Values> inputs = inputs_of(comm.rank(), step);
    std::vector<OnDevice> tensors;
    std::vector<OnDevice> residuals;
    std::vector<ItemBuffers> buffers;
    for (const Values& input : inputs) {
      const ConstTensor x = input.tensor();
      tensors.emplace_back(x, stream.ref(), size_of(x.dtype));
      residuals.emplace_back(x.count * sizeof(float));
      buffers.push_back({tensors.back().tensor(x.count, x.dtype), residuals.back().tensor(x.count)});
    }
    operation.start(buffers, workspace.bytes(), step, stream.ref()).wait();
    for (const OnDevice& each : tensors) all.push_back(each.read(stream.ref()));
    for (const OnDevice& each : residuals) all.push_back(each.read(stream.ref()));
  }
  return all;
}

/// Operations that are all in flight before the first is waited for: some of them all-reduce, in the order of starts,
/// whoever moves on first. Ranges are the largest of all ranks'.
inline void sum_in_the_order_of_starts(Communicator& comm) {
  constexpr std::size_t kCount = 3000;
  const std::string specs[] = {"thc(8)", "none", "q4", "randomk(1)", "thc(4)", "none"};
  const device::Stream stream;
  std::vector<PersistentAllreduce> operations;
  std::vector<Buffer> workspaces;
  std::vector<OnDevice> tensors;
  std::vector<Work> works;
  for (std::uint32_t i = 0; i < std::size(specs); ++i) {
    const std::vector<BucketItem> items{{ParamId{i}, kCount, DType::f32, make_compressor(specs[i])}};
    operations.emplace_back(comm, items, Slot{i}, options_of({"auto", "", comm.size()}));
    workspaces.emplace_back(operations.back().workspace_bytes(), Space::device);
    const std::vector<float> values(kCount, static_cast<float>(i + 1) * static_cast<float>(comm.rank() + 1));
    tensors.emplace_back(values.data(), kCount * sizeof(float), stream.ref());
  }
  for (std::uint32_t i = 0; i < std::size(specs); ++i) {
    const std::vector<ItemBuffers> buffers{{tensors[i].tensor(kCount), {}}};
    works.push_back(operations[i].start(buffers, workspaces[i].bytes(), 0, stream.ref()));
    for (int turn = 0; turn < 5; ++turn) {  // one rank moves on what it has started, the others only their messages
      if (comm.rank() == 0) (void)works.back().done();
      comm.transport().progress();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  for (std::size_t i = works.size(); i-- > 0;) works[i].wait();
  for (std::size_t i = 0; i < std::size(specs); ++i) {
    const std::vector<std::byte> bytes = tensors[i].read(stream.ref());
    double sum = 0;
    for (std::size_t e = 0; e < kCount; ++e) sum += load_f32(bytes.data(), DType::f32, e);
    const double expected = static_cast<double>(i + 1) * comm.size() * (comm.size() + 1) / 2;
    EXPECT_NEAR(sum / kCount, expected, 0.05 * expected) << specs[i];
  }
}

}  // namespace gradwire::testing
