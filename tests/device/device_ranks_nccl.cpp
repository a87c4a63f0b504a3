#include "base/device.hpp"
#include "device/device_ranks.hpp"
#include "support/nccl_ranks.hpp"

namespace gradwire::testing {

std::vector<Communicator> make_device_ranks(int ranks, int ranks_per_node) {
  NcclOptions options;
  options.verify = true;  // ranks that differ in their order of operations are told apart
  return test::make_nccl_ranks(ranks, options, ranks_per_node);
}

int most_device_ranks() { return test::most_nccl_ranks(); }
void use_device_of(int rank) { device::use(test::nccl_device(rank)); }
int most_ranks_that_sum_like_local() { return 2; }

}  // namespace gradwire::testing
