// Ranks of an MPI job that share devices, whose memory MPI does not know: it travels through pinned buffers.
#include "gradwire/mpi.hpp"

#include "device/allreduce_runs.hpp"

namespace gradwire::testing {
namespace {

class DeviceMpi : public DeviceTest {
 protected:
  /// This rank's communicator, on its device.
  static Communicator make() {
    Communicator comm = make_mpi();
    device::use(comm.rank() % device::count());
    return comm;
  }
};

TEST_F(DeviceMpi, GivesTheHostsBits) {
  Communicator comm = make();
  ASSERT_TRUE(comm.transport().reaches(Space::device));
  for (const std::string_view algorithm :
       {"scatter_reduce", "ring", "gather_sum", "hierarchical", "dense", "integer_sum"}) {
    const std::string spec = algorithm == "dense" ? "none" : algorithm == "integer_sum" ? "thc(block=256)" : "q4";
    const Case run{std::string(algorithm), spec, comm.size()};
    EXPECT_EQ(run_on_device(comm, run), run_on_host(comm, run)) << algorithm;
  }
}

TEST_F(DeviceMpi, SumsInTheOrderOfStarts) {
  Communicator comm = make_mpi();
  sum_in_the_order_of_starts(comm);
}

/// Host and device messages of one slot, in the order in which they were given.
TEST_F(DeviceMpi, KeepsTheOrderOfASlot) {
  Communicator comm = make();
  if (comm.size() == 1) return;
  const device::Stream stream;
  const int right = (comm.rank() + 1) % comm.size();
  const int left = (comm.rank() + comm.size() - 1) % comm.size();
  constexpr std::size_t kBytes = 4096;
  std::vector<OnDevice> device_in;
  std::vector<Buffer> host_in;
  std::vector<OnDevice> device_out;
  std::vector<Buffer> host_out;
  std::vector<Work> works;
  for (int i = 0; i < 6; ++i) {
    const std::vector<std::byte> sent(kBytes, static_cast<std::byte>(i + 1));
    if (i % 2 == 0) {
      device_out.emplace_back(sent.data(), kBytes, stream.ref());
      device_in.emplace_back(kBytes);
      const Send send{device_out.back().bytes(), right};
      const Recv recv{device_in.back().bytes(), left};
      works.push_back(comm.transport().exchange({&send, 1}, {&recv, 1}, Slot{3}, stream.ref()));
    } else {
      host_out.emplace_back(kBytes);
      std::memcpy(host_out.back().data(), sent.data(), kBytes);
      host_in.emplace_back(kBytes);
      const Send send{host_out.back().bytes(), right};
      const Recv recv{host_in.back().bytes(), left};
      works.push_back(comm.transport().exchange({&send, 1}, {&recv, 1}, Slot{3}, StreamRef::host()));
    }
  }
  for (std::size_t i = works.size(); i-- > 0;)
    works[i].wait(std::chrono::steady_clock::now() + std::chrono::seconds(60));
  for (int i = 0; i < 6; ++i) {
    const auto place = static_cast<std::size_t>(i / 2);
    const std::vector<std::byte> expected(kBytes, static_cast<std::byte>(i + 1));
    const std::byte* const host = host_in[place % host_in.size()].data();
    EXPECT_EQ(i % 2 == 0 ? device_in[place].read(stream.ref()) : std::vector<std::byte>(host, host + kBytes), expected);
  }
}

}  // namespace
}  // namespace gradwire::testing
