#pragma once
#include <string>
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

}  // namespace gradwire::testing
