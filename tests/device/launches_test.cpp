// What a bucket costs in launches, and copies, does not grow with the number of its tensors. The model counts them.
#include <barrier>
#include <string>
#include <vector>

#include "device/device_ranks.hpp"
#include "device/device_support.hpp"
#include "device_model/model.hpp"

#include "gradwire/allreduce.hpp"

namespace gradwire::testing {
namespace {

constexpr int kRanks = 3;

struct Bucket {
  std::string algorithm;
  std::vector<std::string> specs;  ///< by turns
  DType dtype = DType::f32;
  std::size_t tensors = 0;
};

/// Launches and copies of all ranks in one run, their messages through pinned memory among them.
std::uint64_t launches_of(const Bucket& bucket) {
  std::uint64_t launches = 0;
  std::barrier together(kRanks);
  spawn_on_devices(make_device_ranks(kRanks), [&](Communicator& comm) {
    std::vector<BucketItem> items;
    std::vector<OnDevice> memory;
    std::vector<ItemBuffers> buffers;
    const device::Stream stream;
    for (std::size_t i = 0; i < bucket.tensors; ++i) {
      const std::size_t count = 64 + i * 37 % 512;
      items.push_back({ParamId{static_cast<std::uint32_t>(i + 1)}, count, bucket.dtype,
                       make_compressor(bucket.specs[i % bucket.specs.size()])});
      const Values values(normal_gradients(count, static_cast<unsigned>(i)), bucket.dtype);
      memory.emplace_back(values.tensor(), stream.ref());
      const Tensor tensor = memory.back().tensor(count, bucket.dtype);
      memory.emplace_back(count * sizeof(float));
      buffers.push_back({tensor, memory.back().tensor(count)});
    }
    AllreduceOptions options;
    options.space = Space::device;
    options.algorithm = bucket.algorithm;
    options.segment_bytes = std::size_t{1} << 20;
    options.timeout = std::chrono::seconds(60);
    PersistentAllreduce operation(comm, std::move(items), Slot{1}, options);
    const Buffer workspace(operation.workspace_bytes(), Space::device);
    device::wait(stream.ref());
    std::uint64_t before = 0;
    for (std::uint64_t step = 0; step < 2; ++step) {  // the first also clears the workspace
      together.arrive_and_wait();
      before = device_model::counters().launches;
      together.arrive_and_wait();
      operation.start(buffers, workspace.bytes(), step, stream.ref()).wait();
    }
    together.arrive_and_wait();
    if (comm.rank() == 0) launches = device_model::counters().launches - before;
    together.arrive_and_wait();
  });
  return launches;
}

class Launches : public DeviceTest {
 protected:
  static void expect_all_alike(Bucket bucket, std::uint64_t expected) {
    for (const std::size_t tensors : {30u, 120u}) {
      bucket.tensors = tensors;
      EXPECT_EQ(launches_of(bucket), expected) << bucket.algorithm << ", " << tensors << " tensors";
    }
  }
};

// Of each rank of scatter_reduce with q4: encode the others' chunks, 2; sum and encode its own, decode it, look for
// NaN, 3; decode and look, for each of the others', 4; and for messages through pinned memory, 4 sent and 4 received.
TEST_F(Launches, OfScatterReduce) {
  expect_all_alike({"scatter_reduce", {"q4"}}, 51);
  expect_all_alike({"scatter_reduce", {"q4"}, DType::bf16}, 63);
  expect_all_alike({"scatter_reduce", {"f8"}}, 57);
}

TEST_F(Launches, OfCompressorsByTurns) { expect_all_alike({"scatter_reduce", {"q4", "q2", "natural"}}, 105); }

TEST_F(Launches, OfDense) { expect_all_alike({"dense", {"none"}}, 21); }

TEST_F(Launches, OfOthers) {
  expect_all_alike({"gather_sum", {"q4"}}, 27);
  expect_all_alike({"ring", {"bf16"}, DType::f16}, 66);
}

}  // namespace
}  // namespace gradwire::testing
