#pragma once
#include <functional>
#include <vector>

#include "support/spawn.hpp"

#include "gradwire/transport.hpp"

namespace gradwire::testing {

/// Ranks whose device memory a binary's transport moves: `local` through pinned buffers, or NCCL. One node, or nodes of
/// so many ranks.
[[nodiscard]] std::vector<Communicator> make_device_ranks(int ranks, int ranks_per_node = 0);

/// As many as the machine has room for: over NCCL each needs a device of its own.
[[nodiscard]] int most_device_ranks();

/// Makes the rank's device the calling thread's. Over `local` ranks take turns among the devices that there are.
void use_device_of(int rank);

/// Ranks of which the transport's own all-reduce gives the bits that `local` gives. NCCL adds in an order of its own.
[[nodiscard]] int most_ranks_that_sum_like_local();

/// spawn(), each thread on its rank's device.
inline void spawn_on_devices(std::vector<Communicator> ranks, const std::function<void(Communicator&)>& body) {
  test::spawn(std::move(ranks), [&](Communicator& comm) {
    use_device_of(comm.rank());
    body(comm);
  });
}

}  // namespace gradwire::testing

/// At the start of a test that needs so many devices.
#define GRADWIRE_NEEDS_DEVICES(devices) \
  if (::gradwire::device::count() < (devices)) GTEST_SKIP() << "not tried: it needs " << (devices) << " devices"

/// At the start of a test that needs so many ranks.
#define GRADWIRE_NEEDS_RANKS(ranks)                       \
  if ((ranks) > ::gradwire::testing::most_device_ranks()) \
  GTEST_SKIP() << "not tried: " << (ranks) << " ranks need a device each"
