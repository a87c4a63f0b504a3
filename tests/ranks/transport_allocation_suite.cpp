// Exchanges in steady state allocate nothing.
#include <array>

#include "ranks/transport_suite.hpp"
#include "support/allocations.hpp"

namespace gradwire::test {
namespace {

class TransportAllocation : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, TransportAllocation, ::testing::ValuesIn(worlds()), world_name);

constexpr std::size_t kInFlight = 4;

struct Ring {
  explicit Ring(const Communicator& comm) : neighbours(comm) {}
  Neighbours neighbours;
  std::array<std::array<std::byte, 5000>, kInFlight> out{};
  std::array<std::array<std::byte, 5000>, kInFlight> in{};

  void round(Communicator& comm, std::size_t in_flight) {
    std::array<Work, kInFlight> works;
    for (std::size_t i = 0; i < in_flight; ++i) {
      const Send send{ConstBytes{out[i].data(), out[i].size()}, neighbours.next};
      const Recv recv{Bytes{in[i].data(), in[i].size()}, neighbours.previous};
      works[i] = comm.transport().exchange({&send, 1}, {&recv, 1}, Slot{1}, StreamRef::host());
    }
    for (std::size_t i = 0; i < in_flight; ++i) works[i].wait(patience());
  }
};

/// The warm-up keeps more in flight than the measured rounds, so that what they need is there whatever the timing.
TEST_P(TransportAllocation, NoneInSteadyState) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const auto ring = std::make_unique<Ring>(comm);
    for (int warm_up = 0; warm_up < 50; ++warm_up) ring->round(comm, kInFlight);
    {
      const AllocationCount count;
      for (int rounds = 0; rounds < 100; ++rounds) ring->round(comm, 1);
      EXPECT_EQ(count.value(), 0u);
    }
    const AllocationCount count;
    const auto proof = std::make_unique<int>(1);
    EXPECT_EQ(count.value(), 1u) << "the counter does not count";
  });
}

}  // namespace
}  // namespace gradwire::test
