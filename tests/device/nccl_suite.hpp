#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "base/device.hpp"
#include "device/device_ranks.hpp"
#include "device/device_support.hpp"
#include "ranks/transport_suite.hpp"
#include "support/nccl_ranks.hpp"
#include "support/spawn.hpp"

namespace gradwire::test {

using testing::OnDevice;

/// Each combination of a number of ranks and options that the machine allows.
struct NcclWorld {
  std::string name;
  int ranks;
  NcclOptions options = {};
  bool tcp = false;
  int ranks_per_node = 0;

  [[nodiscard]] std::vector<Communicator> make() const {
    return tcp ? make_nccl_tcp_ranks(ranks, options) : make_nccl_ranks(ranks, options, ranks_per_node);
  }
};

using testing::spawn_on_devices;
/// The same over make_local(ranks).
inline void spawn_on_devices(int ranks, const std::function<void(Communicator&)>& body) {
  spawn_on_devices(make_local(ranks), body);
}

inline std::vector<std::byte> read(const OnDevice& memory, const device::Stream& stream) {
  return memory.read(stream.ref());
}

}  // namespace gradwire::test
