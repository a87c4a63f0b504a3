// Exchanges in steady state allocate nothing. The global operator new of this binary counts, which leaves out what a C
// library such as MPI allocates for itself.
#include <atomic>
#include <cstdlib>
#include <new>

#include "ranks/transport_suite.hpp"

namespace {
thread_local bool counting = false;
thread_local std::size_t allocations = 0;

void* count_and_allocate(std::size_t size) {
  if (counting) ++allocations;
  if (void* const memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t size) { return count_and_allocate(size); }
void* operator new[](std::size_t size) { return count_and_allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace gradwire::test {
namespace {

class TransportAllocation : public TransportTest {};
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
    allocations = 0;
    counting = true;
    for (int rounds = 0; rounds < 100; ++rounds) ring->round(comm, 1);
    counting = false;
    EXPECT_EQ(allocations, 0u);

    counting = true;
    const auto proof = std::make_unique<int>(1);
    counting = false;
    EXPECT_EQ(allocations, 1u) << "the counter does not count";
  });
}

}  // namespace
}  // namespace gradwire::test
