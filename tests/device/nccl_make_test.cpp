// How NCCL communicators come about, and what is refused, on the model of NCCL. Run with GRADWIRE_TIMEOUT_MS=300.
#include <thread>

#include "device/nccl_suite.hpp"
#include "device_model/nccl_model.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;
constexpr Slot kSlot{2};

void use(Communicator& comm) {
  if (comm.size() == 1) return;
  const Neighbours ring(comm);
  const device::Stream stream;
  const std::vector<std::byte> bytes = pattern(comm.rank(), ring.next, 999);
  const OnDevice out(bytes.data(), bytes.size(), stream.ref());
  const OnDevice in(bytes.size());
  const Send send{out.bytes(), ring.next};
  const Recv recv{in.bytes(), ring.previous};
  wait(comm.transport().exchange({&send, 1}, {&recv, 1}, kSlot, stream.ref()));
  EXPECT_EQ(in.read(stream.ref()), pattern(ring.previous, comm.rank(), 999));
  comm.barrier(patience());
}

/// A communicator of the program's own.
class Given {
 public:
  Given(ncclUniqueId id, int rank, int size) { EXPECT_EQ(ncclCommInitRank(&comm_, size, id, rank), ncclSuccess); }
  Given(const Given&) = delete;
  Given& operator=(const Given&) = delete;
  ~Given() { EXPECT_EQ(ncclCommDestroy(comm_), ncclSuccess); }
  [[nodiscard]] ncclComm_t get() const { return comm_; }

 private:
  ncclComm_t comm_ = nullptr;
};
ncclUniqueId new_id() {
  ncclUniqueId id;
  EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  return id;
}

TEST(NcclMake, FromTheProgramsCommunicatorBesideAnother) {
  const ncclUniqueId id = new_id();
  spawn_on_devices(3, [&](Communicator& host) {
    const Given given(id, host.rank(), host.size());
    for (const NcclBetween between : {NcclBetween::nccl, NcclBetween::host}) {
      Communicator comm = make_nccl(host, {.comm = given.get(), .between_nodes = between});
      EXPECT_EQ(comm.rank(), host.rank());
      use(comm);
    }
    host.barrier(patience());
  });
}

TEST(NcclMake, FromTheProgramsCommunicatorAlone) {
  for (const int ranks : {1, 2, 4}) {
    const ncclUniqueId id = new_id();
    spawn_on_devices(ranks, [&](Communicator& host) {
      const Given given(id, host.rank(), host.size());
      Communicator comm = make_nccl({.comm = given.get()});
      EXPECT_EQ(comm.rank(), host.rank());
      EXPECT_EQ(comm.size(), host.size());
      EXPECT_THAT(comm.transport().info().detail, HasSubstr("host messages over tcp"));
      use(comm);
      host.barrier(patience());
    });
  }
}

/// The program's communicator may be a blocking one: its split would wait for ever.
TEST(NcclMake, ASplitThatARankDoesNotCallIsATimeout) {
  const ncclUniqueId id = new_id();
  spawn_on_devices(2, [&](Communicator& host) {
    const Given given(id, host.rank(), host.size());
    if (host.rank() == 0) {
      const Outcome outcome = outcome_of([&] { (void)make_nccl({.comm = given.get()}); });
      EXPECT_EQ(outcome.code, Errc::timeout);
      EXPECT_THAT(outcome.message, HasSubstr("ncclCommSplit"));
    }
    host.barrier(patience());
  });
}

TEST(NcclMake, TakesTheHostChannelForItself) {
  spawn_on_devices(2, [](Communicator& host) {
    {
      const Communicator comm = make_nccl(host);
      const Outcome outcome = outcome_of([&] { (void)make_nccl(host); });
      EXPECT_EQ(outcome.code, Errc::invalid_argument);
      EXPECT_THAT(outcome.message, HasSubstr("an NCCL transport uses this one"));
      comm.barrier(patience());
    }
  });
}

TEST(NcclMake, RefusesWhatDoesNotFit) {
  const Outcome rank = outcome_of([] { (void)make_nccl(nccl_unique_id(), 2, 2); });
  EXPECT_EQ(rank.code, Errc::invalid_argument);
  EXPECT_THAT(rank.message, HasSubstr("rank 2 of 2"));
  EXPECT_EQ(outcome_of([] { (void)make_nccl(NcclOptions{}); }).code, Errc::invalid_argument);

  const ncclUniqueId id = new_id();
  spawn_on_devices(2, [&](Communicator& host) {
    const Given given(id, 1 - host.rank(), 2);
    const Outcome turned = outcome_of([&] { (void)make_nccl(host, {.comm = given.get()}); });
    EXPECT_EQ(turned.code, Errc::invalid_argument);
    EXPECT_THAT(turned.message, HasSubstr("NcclOptions::comm"));
    host.barrier(patience());
  });
}

TEST(NcclMake, RanksThatDifferHearOfIt) {
  spawn_on_devices(2, [](Communicator& host) {
    const Outcome options = outcome_of([&] { (void)make_nccl(host, {.verify = host.rank() == 1}); });
    EXPECT_EQ(options.code, Errc::rank_mismatch);
    EXPECT_THAT(options.message, HasSubstr("NcclOptions::verify"));
    const Outcome device = outcome_of([&] { (void)make_nccl(host, {.device = host.rank() == 1 ? 99 : 0}); });
    EXPECT_EQ(device.code, Errc::rank_mismatch);
    EXPECT_THAT(device.message, HasSubstr("NcclOptions::device=99"));
    Communicator comm = make_nccl(host);  // the host channel is as good as before
    use(comm);
  });
}

TEST(NcclMake, ARankThatDoesNotComeIsATimeout) {
  spawn_on_devices(2, [](Communicator& host) {
    if (host.rank() == 1) return;
    EXPECT_EQ(outcome_of([&] { (void)make_nccl(host); }).code, Errc::timeout);
  });
  const NcclUniqueId id = nccl_unique_id();
  const Outcome outcome = outcome_of([&] { (void)make_nccl(id, 0, 2); });
  EXPECT_EQ(outcome.code, Errc::timeout);
  EXPECT_THAT(outcome.message, HasSubstr("ncclCommInitRankConfig"));
}

TEST(NcclMake, ARankThatFailsHalfWayIsHeardOf) {
  nccl_model::report_error(1, ncclSystemError);
  spawn_on_devices(2, [](Communicator& host) {
    const Outcome outcome = outcome_of([&] { (void)make_nccl(host); });
    if (host.rank() == 1) {
      EXPECT_EQ(outcome.code, Errc::transport);
      EXPECT_THAT(outcome.message, HasSubstr("unhandled system error"));
    } else if (outcome.code != Errc::ok) {  // it may have got its communicator before
      EXPECT_EQ(outcome.code, Errc::aborted);
    }
  });
  nccl_model::report_error(1, ncclSuccess);
}

}  // namespace
}  // namespace gradwire::test
