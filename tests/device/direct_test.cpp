// A transport that takes device memory itself, as an MPI may: over ranks as threads whose messages reach the memory of
// the model's devices. No such MPI has run with it.
#include <mutex>

#include "device/allreduce_runs.hpp"
#include "device/device_ranks.hpp"
#include "device_model/model.hpp"
#include "support/forwarding.hpp"
#include "transport/mpi_device_path.hpp"

namespace gradwire::testing {
namespace {

/// Of a message that may copy device memory whenever it is moved on.
class OpenedWork final : public Completion {
 public:
  explicit OpenedWork(Work inner) : inner_(std::move(inner)) {}
  bool poll() override {
    const device_model::Opened opened;
    return inner_.done();
  }
  [[nodiscard]] std::string describe() const override { return inner_.describe(); }

 private:
  Work inner_;
};

/// What one rank has sent.
struct Sent {
  std::size_t messages = 0;
  std::size_t bytes = 0;
  std::size_t from_device = 0;
};

class TakesDeviceMemory final : public test::Forwarding {
 public:
  TakesDeviceMemory(const Communicator& inner, DevicePath path, Sent& sent)
      : Forwarding(inner), path_(path), sent_(sent) {}
  [[nodiscard]] bool reaches(Space space) const noexcept override {
    return space == Space::host || path_ == DevicePath::direct;
  }
  [[nodiscard]] Work exchange(std::span<const Send> sends, std::span<const Recv> recvs, Slot slot,
                              StreamRef stream) override {
    EXPECT_TRUE(stream.is_host());
    std::vector<Send> own_sends(sends.begin(), sends.end());
    std::vector<Recv> own_recvs(recvs.begin(), recvs.end());
    for (Send& send : own_sends) {
      const bool is_device = send.bytes.space == Space::device;
      EXPECT_TRUE(reaches(send.bytes.space));
      sent_.messages += 1;
      sent_.bytes += send.bytes.size;
      sent_.from_device += is_device ? 1 : 0;
      send.bytes.space = Space::host;  // for the transport below, whose copies find it open
    }
    for (Recv& recv : own_recvs) {
      EXPECT_TRUE(reaches(recv.bytes.space));
      recv.bytes.space = Space::host;
    }
    const device_model::Opened opened;
    return Work(std::make_shared<OpenedWork>(Forwarding::exchange(own_sends, own_recvs, slot, stream)));
  }
  [[nodiscard]] Work all_reduce_sum(Tensor inout, Slot slot, StreamRef stream) override {
    EXPECT_EQ(inout.space, Space::host) << "sums go through pinned buffers";
    return Forwarding::all_reduce_sum(inout, slot, stream);
  }
  void progress() override {
    const device_model::Opened opened;
    Forwarding::progress();
  }

 private:
  DevicePath path_;
  Sent& sent_;
};

class Direct : public DeviceTest, public ::testing::WithParamInterface<Case> {};

TEST_P(Direct, GivesTheBitsAndTheBytesOfStaging) {
  const Case& run = GetParam();
  const std::vector<Communicator> first = make_local(run.ranks, run.ranks_per_node);
  const std::vector<Communicator> second = make_local(run.ranks, run.ranks_per_node);
  spawn_on_devices(make_local(run.ranks, run.ranks_per_node), [&](Communicator& host) {
    const auto rank = static_cast<std::size_t>(host.rank());
    Sent staged;
    Sent direct;
    const auto make = [](const Communicator& inner, DevicePath path, Sent& sent) {
      return Communicator(reach_device(std::make_shared<TakesDeviceMemory>(inner, path, sent), path));
    };
    Communicator through_buffers = make(first[rank], DevicePath::staged, staged);
    Communicator as_it_is = make(second[rank], DevicePath::direct, direct);
    const Memory expected = run_on_host(host, run);
    EXPECT_EQ(run_on_device(through_buffers, run), expected);
    EXPECT_EQ(run_on_device(as_it_is, run), expected);
    EXPECT_EQ(direct.messages, staged.messages);
    EXPECT_EQ(direct.bytes, staged.bytes);
    EXPECT_EQ(staged.from_device, 0u);
    EXPECT_EQ(direct.from_device > 0, run.algorithm != "dense");
  });
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const int ranks : {1, 2, 3, 7}) {
    if (ranks > 1) {
      for (const std::string algorithm : {"scatter_reduce", "ring", "gather_sum"})
        all.push_back({algorithm, "q4", ranks});
      all.push_back({"gather_sum", "topk(0.05)", ranks});
    }
    all.push_back({"dense", "none", ranks});
  }
  all.push_back({"hierarchical", "q4", 3, 2});
  return all;
}
INSTANTIATE_TEST_SUITE_P(All, Direct, ::testing::ValuesIn(cases()));

TEST(DevicePaths, FollowWhatMpiSays) {
  EXPECT_EQ(device_path(MpiDevice::automatic, false), DevicePath::staged);
  EXPECT_EQ(device_path(MpiDevice::automatic, true), DevicePath::direct);
  EXPECT_EQ(device_path(MpiDevice::staged, true), DevicePath::staged);
  EXPECT_EQ(device_path(MpiDevice::direct, true), DevicePath::direct);
  try {
    (void)device_path(MpiDevice::direct, false);
    ADD_FAILURE() << "it was taken at its word";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::unsupported);
    EXPECT_NE(std::string(error.what()).find("GRADWIRE_MPI_DEVICE=direct"), std::string::npos) << error.what();
  }
}

TEST(DevicePaths, AreToldOf) {
  Sent sent;
  const Communicator inner = make_local(1).front();
  for (const DevicePath path : {DevicePath::staged, DevicePath::direct}) {
    const auto made = reach_device(std::make_shared<TakesDeviceMemory>(inner, path, sent), path);
    const bool says_direct = made->info().detail.find("device messages as they are") != std::string::npos;
    EXPECT_EQ(says_direct, path == DevicePath::direct) << made->info().detail;
  }
}

}  // namespace
}  // namespace gradwire::testing
