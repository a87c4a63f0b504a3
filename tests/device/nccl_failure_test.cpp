// What goes wrong over NCCL, on its model: nobody hangs, every rank hears, and no communicator is left behind.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <thread>

#include "device/nccl_suite.hpp"
#include "device_model/nccl_model.hpp"
#include "support/forwarding.hpp"
#include "transport/nccl_helpers.hpp"
#include "transport/socket_mesh.hpp"

namespace gradwire::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr Slot kSlot{5};
constexpr Slot kOther{6};

/// Where threads meet before one of them aborts, which may overtake the messages of Communicator::barrier.
class Meeting {
 public:
  explicit Meeting(int ranks) : ranks_(ranks) {}
  void wait() {
    ++come_;
    for (const Deadline deadline = patience(); come_ < ranks_;) {
      if (std::chrono::steady_clock::now() >= deadline) throw Error(Errc::timeout, "a rank does not come");
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }

 private:
  const int ranks_;
  std::atomic<int> come_{0};
};

void await_helpers() {
  for (const Deadline deadline = patience(); nccl_helpers::alive() > 0;) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << nccl_helpers::alive() << " helpers do not end";
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

class NcclFailure : public ::testing::Test {
 protected:
  void SetUp() override { aborts_before_ = nccl_model::aborts(); }
  void TearDown() override {
    nccl_model::set_abort_time(std::chrono::milliseconds(0));
    for (int rank = 0; rank < 8; ++rank) nccl_model::report_error(rank, ncclSuccess);
    await_helpers();
    EXPECT_EQ(nccl_model::communicators(), 0);
  }
  [[nodiscard]] int aborts() const { return nccl_model::aborts() - aborts_before_; }

 private:
  int aborts_before_ = 0;
};

Work ring_step(Communicator& comm, const OnDevice& out, const OnDevice& in, Slot slot) {
  const Neighbours ring(comm);
  const Send send{out.bytes(), ring.next};
  const Recv recv{in.bytes(), ring.previous};
  return comm.transport().exchange({&send, 1}, {&recv, 1}, slot, StreamRef::host());
}

Deadline soon() { return std::chrono::steady_clock::now() + std::chrono::milliseconds(30); }

void expect_aborted(const Work& work, std::string_view why) {
  const Outcome outcome = outcome_of([&] { wait(work); });
  EXPECT_EQ(outcome.code, Errc::aborted) << outcome.message;
  EXPECT_THAT(outcome.message, HasSubstr(std::string(why)));
}

TEST_F(NcclFailure, CommunicatorsThatWereUsedWellAreNotAborted) {
  for (const bool tcp : {false, true}) {
    spawn_on_devices(tcp ? make_nccl_tcp_ranks(3) : make_nccl_ranks(3), [](Communicator& comm) {
      const OnDevice out(100);
      const OnDevice in(100);
      wait(ring_step(comm, out, in, kSlot));
    });
    await_helpers();
  }
  EXPECT_EQ(aborts(), 0);
}

TEST_F(NcclFailure, DeadlineNamesTheSilentPeerAndIsTheWaitersAlone) {
  std::atomic<int> timeouts{0};
  spawn_on_devices(make_nccl_ranks(3), [&](Communicator& comm) {
    const OnDevice out(64);
    const OnDevice in(64);
    if (comm.rank() == 2) {
      while (timeouts < 2) std::this_thread::yield();
      wait(ring_step(comm, out, in, kSlot));
      return;
    }
    const Work work = ring_step(comm, out, in, kSlot);
    const Outcome outcome = outcome_of([&] { work.wait(soon()); });
    EXPECT_EQ(outcome.code, Errc::timeout);
    EXPECT_THAT(outcome.message, HasSubstr("exchange in slot 5 on the device"));
    EXPECT_THAT(outcome.message, HasSubstr(comm.rank() == 0 ? "2 1" : "ranks 0 2"));
    ++timeouts;
    wait(work);
  });
  EXPECT_EQ(aborts(), 0);
}

TEST_F(NcclFailure, AbortEndsWhatIsStuckOnEveryRank) {
  for (const bool connected : {false, true}) {
    Meeting meeting(3);
    spawn_on_devices(make_nccl_ranks(3), [&](Communicator& comm) {
      const OnDevice out(64);
      const OnDevice in(64);
      if (connected) wait(ring_step(comm, out, in, kSlot));
      if (comm.rank() == 2) {
        meeting.wait();
        comm.transport().abort("the disk is full");
        comm.transport().abort("a later reason");
      } else {
        const Work work = ring_step(comm, out, in, kSlot);
        EXPECT_FALSE(work.done());
        meeting.wait();
        for (int again = 0; again < 2; ++again) expect_aborted(work, "rank 2 aborted: the disk is full");
        EXPECT_EQ(outcome_of([&] { work.before(device::Stream().ref()); }).code, Errc::aborted);
      }
      expect_aborted(ring_step(comm, out, in, kOther), "rank 2 aborted: the disk is full");
      expect_aborted(comm.transport().all_reduce_sum(out.tensor(16), kSlot, StreamRef::host()),
                     "rank 2 aborted: the disk is full");
      expect_aborted(comm.transport().exchange({}, {}, kSlot, StreamRef::host()), "the disk is full");
    });
    await_helpers();
  }
  EXPECT_EQ(aborts(), 6);
}

/// The helper aborts on a rank that makes no further call of gradwire's.
TEST_F(NcclFailure, AbortReachesARankThatOnlyWaitsForItsStream) {
  Meeting meeting(2);
  spawn_on_devices(make_nccl_ranks(2), [&](Communicator& comm) {
    const OnDevice out(64);
    const OnDevice in(64);
    wait(ring_step(comm, out, in, kSlot));
    if (comm.rank() == 0) {
      const device::Stream stream;
      const Work work = ring_step(comm, out, in, kSlot);
      work.before(stream.ref());
      meeting.wait();
      device::wait(stream.ref());  // ends because the kernels do
      expect_aborted(work, "rank 1 aborted: enough");
    } else {
      meeting.wait();
      comm.transport().abort("enough");
    }
  });
}

TEST_F(NcclFailure, SizesThatDifferEndAtTheDeadline) {
  spawn_on_devices(make_nccl_ranks(2), [](Communicator& comm) {
    const OnDevice out(64);
    const OnDevice in(comm.rank() == 0 ? 64 : 65);
    const Work work = ring_step(comm, out, in, kSlot);
    const Outcome outcome = outcome_of([&] { work.wait(soon()); });
    EXPECT_THAT(outcome.code, AnyOf(Errc::timeout, Errc::aborted)) << outcome.message;
    comm.transport().abort(outcome.message);  // as those who wait inside gradwire do
    expect_aborted(work, "aborted");
  });
}

TEST_F(NcclFailure, VerifiedSizesThatDifferAreAMismatch) {
  std::atomic<int> mismatches{0};
  spawn_on_devices(make_nccl_ranks(2, {.verify = true}), [&](Communicator& comm) {
    const OnDevice out(64);
    const OnDevice in(comm.rank() == 0 ? 64 : 65);
    const Outcome outcome = outcome_of([&] { wait(ring_step(comm, out, in, kSlot)); });
    EXPECT_THAT(outcome.code, AnyOf(Errc::rank_mismatch, Errc::aborted)) << outcome.message;
    EXPECT_THAT(outcome.message, HasSubstr("65 bytes in slot 5"));
    EXPECT_THAT(outcome.message, HasSubstr("64 bytes in slot 5"));
    if (outcome.code == Errc::rank_mismatch) ++mismatches;
  });
  EXPECT_EQ(mismatches, 1);
}

/// Of equal sizes: without verification the messages would have been taken for one another.
TEST_F(NcclFailure, VerifiedOrdersThatDifferAreAMismatch) {
  std::atomic<int> mismatches{0};
  for (const bool tcp : {false, true}) {
    spawn_on_devices(tcp ? make_nccl_tcp_ranks(3, {.verify = true}) : make_nccl_ranks(3, {.verify = true}),
                     [&](Communicator& comm) {
                       const OnDevice out(64);
                       const OnDevice in(64);
                       const bool odd_one = comm.rank() == 1;
                       const Work first = ring_step(comm, out, in, odd_one ? kOther : kSlot);
                       const Work second = ring_step(comm, out, in, odd_one ? kSlot : kOther);
                       const Outcome outcome = outcome_of([&] {
                         wait(first);
                         wait(second);
                       });
                       EXPECT_THAT(outcome.code, AnyOf(Errc::rank_mismatch, Errc::aborted)) << outcome.message;
                       EXPECT_THAT(outcome.message, HasSubstr("different orders"));
                       if (outcome.code == Errc::rank_mismatch) ++mismatches;
                     });
  }
  EXPECT_GE(mismatches, 2);
}

TEST_F(NcclFailure, VerifiedSumsThatDifferAreAMismatch) {
  spawn_on_devices(make_nccl_ranks(3, {.verify = true}), [](Communicator& comm) {
    const OnDevice values(64);
    const DType dtype = comm.rank() == 2 ? DType::u32 : DType::f32;
    const Outcome outcome =
        outcome_of([&] { wait(comm.transport().all_reduce_sum(values.tensor(16, dtype), kSlot, StreamRef::host())); });
    EXPECT_THAT(outcome.code, AnyOf(Errc::rank_mismatch, Errc::aborted)) << outcome.message;
    EXPECT_THAT(outcome.message, HasSubstr("all-reduce of 64 bytes of"));
  });
}

TEST_F(NcclFailure, ErrorsThatNcclReportsFailTheWorkWithItsWords) {
  Meeting meeting(2);
  spawn_on_devices(make_nccl_ranks(2), [&](Communicator& comm) {
    const OnDevice out(64);
    const OnDevice in(64);
    wait(ring_step(comm, out, in, kSlot));
    const Recv recv{in.bytes(), 1 - comm.rank()};  // of what nobody sends
    const Work work = comm.transport().exchange({}, {&recv, 1}, kSlot, StreamRef::host());
    meeting.wait();
    if (comm.rank() == 1) return expect_aborted(work, "rank 0 aborted: ");
    nccl_model::report_error(0, ncclRemoteError);
    const Outcome outcome = outcome_of([&] { wait(work); });
    EXPECT_EQ(outcome.code, Errc::transport);
    EXPECT_THAT(outcome.message, HasSubstr("remote process exited"));
    EXPECT_THAT(outcome.message, HasSubstr("reported by the test"));
    comm.transport().abort(outcome.message);
  });
}

TEST_F(NcclFailure, ADriverThatHangsInAbortKeepsNobody) {
  nccl_model::set_abort_time(std::chrono::milliseconds(2000));
  spawn_on_devices(make_nccl_ranks(2), [](Communicator& comm) {
    const OnDevice out(64);
    const OnDevice in(64);
    if (comm.rank() == 0) comm.transport().abort("enough");
    expect_aborted(ring_step(comm, out, in, kSlot), "rank 0 aborted: enough");
  });
  EXPECT_EQ(nccl_helpers::alive(), 2);  // the communicators are gone, those who take them down are at it
}

TEST_F(NcclFailure, CommunicatorsDestroyedWithWorkInFlightAreAborted) {
  std::vector<Communicator> ranks = make_nccl_ranks(2);
  std::vector<OnDevice> in;
  for (int rank = 0; rank < 2; ++rank) {
    const device::Scope scope(nccl_device(rank));
    in.emplace_back(64);
  }
  const auto receive = [&](int rank) {  // what nobody sends
    const Recv recv{in[static_cast<std::size_t>(rank)].bytes(), 1 - rank};
    return ranks[static_cast<std::size_t>(rank)].transport().exchange({}, {&recv, 1}, kSlot, StreamRef::host());
  };
  const Work work = receive(0);
  const Work of_the_other = receive(1);
  ranks.erase(ranks.begin());
  expect_aborted(work, "destroyed before the operation was complete");
  expect_aborted(of_the_other, "rank 0 aborted: its communicator was destroyed");
}

/// Of two processes, the second ends with or without destroying its communicator.
std::string heard_of_the_other(bool says_farewell) {
  SocketListener first;
  SocketListener second;
  const std::array cards{first.card(), second.card()};
  const pid_t child = fork();
  if (child == 0) {
    {
      const Communicator comm = make_socket_mesh(std::move(second), 1, cards, patience());
      if (!says_farewell) _exit(0);
    }
    _exit(0);
  }
  const Communicator comm = make_socket_mesh(std::move(first), 0, cards, patience());
  std::vector<std::byte> in(4);
  const Recv recv{view(in), 1};
  const Outcome outcome = outcome_of([&] {
    wait(comm.transport().exchange({}, {&recv, 1}, kSlot, StreamRef::host()));
  });
  EXPECT_EQ(outcome.code, Errc::transport);
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
  return outcome.message;
}

TEST_F(NcclFailure, ARankThatLeavesOrDiesIsHeardOfOverTcp) {
  EXPECT_THAT(heard_of_the_other(true), HasSubstr("rank 1 has left"));
  EXPECT_THAT(heard_of_the_other(false), HasSubstr("rank 1 is gone: its connection has been closed"));
}

/// A host channel that only the program's own threads may use, as MPI of a low thread level: polling moves everything.
class CallerOnly final : public Forwarding {
 public:
  explicit CallerOnly(const Communicator& inner) : Forwarding(inner), info_(inner.transport().info()) {
    info_.any_thread = false;
  }
  [[nodiscard]] const TransportInfo& info() const noexcept override { return info_; }
  [[nodiscard]] Work exchange(std::span<const Send> sends, std::span<const Recv> recvs, Slot slot,
                              StreamRef stream) override {
    EXPECT_EQ(std::this_thread::get_id(), caller_) << "the helper used the host channel";
    return Forwarding::exchange(sends, recvs, slot, stream);
  }
  void progress() override {
    EXPECT_EQ(std::this_thread::get_id(), caller_) << "the helper used the host channel";
    Forwarding::progress();
  }

 private:
  TransportInfo info_;
  std::thread::id caller_ = std::this_thread::get_id();
};

TEST_F(NcclFailure, HostChannelsOfOneThreadAreLeftToTheCaller) {
  spawn_on_devices(3, [](Communicator& inner) {
    for (const NcclBetween between : {NcclBetween::nccl, NcclBetween::host}) {
      const Communicator host(std::make_shared<CallerOnly>(inner));
      Communicator comm = make_nccl(host, {.between_nodes = between, .verify = true});
      EXPECT_FALSE(comm.transport().info().any_thread);
      const OnDevice out(64);
      const OnDevice in(64);
      for (int round = 0; round < 20; ++round) wait(ring_step(comm, out, in, kSlot));
      wait(comm.transport().all_reduce_sum(in.tensor(16), kSlot, StreamRef::host()));
    }
  });
}

TEST_F(NcclFailure, StagedWorkAbortsToo) {
  Meeting meeting(2);
  std::vector<Communicator> ranks = make_nccl_ranks(2, {.between_nodes = NcclBetween::host}, 1);
  spawn_on_devices(ranks, [&](Communicator& comm) {
    const OnDevice out(64);
    const OnDevice in(64);
    wait(ring_step(comm, out, in, kSlot));
    if (comm.rank() == 0) {
      const Work work = ring_step(comm, out, in, kSlot);
      EXPECT_EQ(outcome_of([&] { work.wait(soon()); }).code, Errc::timeout);
      meeting.wait();
      expect_aborted(work, "rank 1 aborted: enough");
    } else {
      meeting.wait();
      comm.transport().abort("enough");
    }
  });
}

}  // namespace
}  // namespace gradwire::test
