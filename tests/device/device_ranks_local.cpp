#include "base/device.hpp"
#include "device/device_ranks.hpp"

namespace gradwire::testing {

std::vector<Communicator> make_device_ranks(int ranks, int ranks_per_node) { return make_local(ranks, ranks_per_node); }
int most_device_ranks() { return 1024; }
void use_device_of(int rank) { device::use(rank % device::count()); }
int most_ranks_that_sum_like_local() { return 1024; }

}  // namespace gradwire::testing
