// Not run for its verdict: one rank never joins an allreduce, and the watchdog has to say so. CTest reads what it
// prints.
#include "ranks/allreduce_suite.hpp"

namespace gradwire::test {
namespace {

class Stuck : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, Stuck, ::testing::ValuesIn(worlds()), world_name);

TEST_P(Stuck, AllreduceIsNamed) {
  run([](Communicator& comm) {
    std::vector<BucketItem> items;
    items.push_back({ParamId{0}, 1000, DType::f32, make_compressor("q4"), "w"});
    PersistentAllreduce operation(comm, items, Slot{3},
                                  {.algorithm = "scatter_reduce", .timeout = std::chrono::seconds(60)});
    const Buffer workspace(operation.workspace_bytes());
    std::vector<float> values(1000);
    const ItemBuffers buffers{{values.data(), values.size()}, {}};
    for (std::uint64_t step = 0; step < 2; ++step) {
      if (comm.rank() == 0 && step == 1) {
        std::byte never{};
        const Recv recv{{&never, 1}, 1};
        wait(comm.transport().exchange({}, {&recv, 1}, Slot{9}, StreamRef::host()));
      }
      wait(operation.start({&buffers, 1}, workspace.bytes(), step, StreamRef::host()));
    }
  });
}

}  // namespace
}  // namespace gradwire::test
