// What a transport says of itself, refuses, reports and survives.
#include "base/device.hpp"
#include "ranks/transport_suite.hpp"

namespace gradwire::test {
namespace {

class TransportFailure : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, TransportFailure, ::testing::ValuesIn(worlds()), world_name);

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
constexpr Slot kSlot{5};
constexpr Slot kOther{6};

Work receive_from(Communicator& comm, int from, std::vector<std::byte>& into) {
  const Recv recv{view(into), from};
  return comm.transport().exchange({}, {&recv, 1}, kSlot, StreamRef::host());
}

TEST_P(TransportFailure, InfoAndReach) {
  run([](Communicator& comm) {
    const TransportInfo& info = comm.transport().info();
    EXPECT_FALSE(info.name.empty());
    EXPECT_FALSE(info.detail.empty());
    EXPECT_EQ(info.rank, comm.rank());
    EXPECT_EQ(info.size, comm.size());
    EXPECT_GE(comm.rank(), 0);
    EXPECT_LT(comm.rank(), comm.size());
    EXPECT_TRUE(comm.transport().reaches(Space::host));
    EXPECT_EQ(comm.transport().reaches(Space::device), device::problem().empty());  // staged, where there is one
    ASSERT_EQ(info.nodes.size(), static_cast<std::size_t>(comm.size()));
    EXPECT_EQ(info.nodes[0], 0);
    int next = 0;
    for (const int node : info.nodes) {  // numbered as they appear
      EXPECT_LE(node, next);
      next = std::max(next, node + 1);
    }
    std::vector<Agreement> same;
    for (const int node : info.nodes) same.push_back({"node", std::to_string(node)});
    comm.agree(same, patience());
  });
}

TEST_P(TransportFailure, PeersThatAreNone) {
  run([](Communicator& comm) {
    std::vector<std::byte> bytes(4);
    for (const int peer : {-1, comm.rank(), comm.size()}) {
      const Send send{view(bytes), peer};
      const Outcome sending = outcome_of([&] {
        (void)comm.transport().exchange({&send, 1}, {}, kSlot, StreamRef::host());
      });
      EXPECT_EQ(sending.code, Errc::invalid_argument);
      EXPECT_THAT(sending.message, HasSubstr(fmt::format("rank {}", peer)));
      EXPECT_EQ(outcome_of([&] { (void)receive_from(comm, peer, bytes); }).code, Errc::invalid_argument);
    }
    comm.barrier(patience());
  });
}

/// The receiver hears of it; what the sender hears is the backend's affair, as long as it hears something in time.
void send_too_much(Communicator& comm, std::size_t sent, std::size_t expected) {
  if (comm.rank() == 0) {
    std::vector<std::byte> in(expected);
    const Work work = receive_from(comm, 1, in);
    for (int again = 0; again < 2; ++again) {
      const Outcome outcome = outcome_of([&] { wait(work); });
      EXPECT_EQ(outcome.code, Errc::rank_mismatch) << outcome.message;
      EXPECT_THAT(outcome.message, HasSubstr("rank 1"));
      EXPECT_THAT(outcome.message, HasSubstr("count or compressor"));
      EXPECT_THAT(outcome.message, HasSubstr("GRADWIRE_CHECK=1"));
    }
  } else if (comm.rank() == 1) {
    const auto out = pattern(1, 0, sent);
    const Send send{view(out), 0};
    const Work work = comm.transport().exchange({&send, 1}, {}, kSlot, StreamRef::host());
    const Outcome outcome = outcome_of([&] { wait(work); });
    EXPECT_THAT(outcome.code, ::testing::AnyOf(Errc::ok, Errc::rank_mismatch)) << outcome.message;
  }
}

TEST_P(TransportFailure, LongerMessageThanExpectedIsAMismatch) {
  run([](Communicator& comm) {
    if (comm.size() > 1) send_too_much(comm, 100, 50);
  });
}

TEST_P(TransportFailure, MuchLongerMessageThanExpectedIsAMismatch) {
  run([](Communicator& comm) {
    if (comm.size() > 1) send_too_much(comm, 1'000'003, 17);
  });
}

TEST_P(TransportFailure, DeadlineNamesTheSilentPeer) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const int silent = comm.size() - 1;
    if (comm.rank() != silent) {
      std::vector<std::byte> in(16);
      const Work work = receive_from(comm, silent, in);
      EXPECT_FALSE(work.done());
      const Outcome outcome =
          outcome_of([&] { work.wait(std::chrono::steady_clock::now() + std::chrono::milliseconds(20)); });
      EXPECT_EQ(outcome.code, Errc::timeout);
      EXPECT_THAT(outcome.message, HasSubstr("exchange in slot 5"));
      EXPECT_THAT(outcome.message, ContainsRegex(fmt::format("ranks? {}$", silent)));
      comm.barrier(patience());
      wait(work);  // a deadline that passed is the waiter's, not the operation's: the message may still come
      EXPECT_EQ(in, pattern(silent, comm.rank(), 16));
    } else {
      comm.barrier(patience());
      for (int peer = 0; peer < silent; ++peer) {
        const auto out = pattern(silent, peer, 16);
        const Send send{view(out), peer};
        wait(comm.transport().exchange({&send, 1}, {}, kSlot, StreamRef::host()));
      }
    }
  });
}

TEST_P(TransportFailure, DescribesOnlyPeersThatAreStillAwaited) {
  run([](Communicator& comm) {
    if (comm.size() < 3) return;
    if (comm.rank() == 0) {
      std::vector<std::byte> in(static_cast<std::size_t>(comm.size()));
      std::vector<Recv> recvs;
      std::string awaited;
      for (int peer = 1; peer < comm.size(); ++peer) {
        recvs.push_back({view(in).slice(static_cast<std::size_t>(peer), 1), peer});
        if (peer > 1) awaited += fmt::format(" {}", peer);
      }
      const Work work = comm.transport().exchange({}, recvs, kSlot, StreamRef::host());
      const auto says = [&] { return work.describe().ends_with((comm.size() == 3 ? "rank" : "ranks") + awaited); };
      for (const Deadline deadline = patience(); !says() && std::chrono::steady_clock::now() < deadline;) {
        EXPECT_FALSE(work.done());
      }
      EXPECT_TRUE(says()) << work.describe();
      comm.barrier(patience());
      wait(work);
    } else {
      if (comm.rank() > 1) comm.barrier(patience());
      const std::byte byte{};
      const Send send{{&byte, 1}, 0};
      wait(comm.transport().exchange({&send, 1}, {}, kSlot, StreamRef::host()));
      if (comm.rank() == 1) comm.barrier(patience());
    }
  });
}

TEST_P(TransportFailure, AbortWakesEveryRank) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const int aborter = comm.size() - 1;
    std::vector<std::byte> in(300'007);
    if (comm.rank() == aborter) {
      comm.transport().abort("the disk is full");
      comm.transport().abort("a later reason");
    }
    // No call throws, before or after: the failure is in each Work.
    const Work first = receive_from(comm, comm.rank() == aborter ? 0 : aborter, in);
    const Outcome waiting = outcome_of([&] { wait(first); });
    EXPECT_EQ(waiting.code, Errc::aborted);
    EXPECT_EQ(waiting.message, fmt::format("rank {} aborted: the disk is full", aborter));

    std::vector<float> values(10);
    const Tensor tensor{values.data(), values.size(), DType::f32, Space::host};
    const Send send{view(std::as_const(in)), (comm.rank() + 1) % comm.size()};
    for (const Work& later : {receive_from(comm, (comm.rank() + 1) % comm.size(), in),
                              comm.transport().exchange({&send, 1}, {}, kSlot, StreamRef::host()),
                              comm.transport().exchange({}, {}, kSlot, StreamRef::host()),
                              comm.transport().all_reduce_sum(tensor, kSlot, StreamRef::host())}) {
      const Outcome outcome = outcome_of([&] { wait(later); });
      EXPECT_EQ(outcome.code, Errc::aborted);
      EXPECT_EQ(outcome.message, waiting.message);
    }
  });
}

TEST_P(TransportFailure, AbortFailsWorkInFlightTheSameWayEachTime) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    std::vector<std::byte> in(1000);
    const Work exchange = receive_from(comm, (comm.rank() + 1) % comm.size(), in);
    EXPECT_FALSE(exchange.done());
    if (comm.rank() == 0) {
      for (int peer = 1; peer < comm.size(); ++peer) {
        const Recv ready{{}, peer};
        wait(comm.transport().exchange({}, {&ready, 1}, kOther, StreamRef::host()));
      }
      comm.transport().abort("enough");
    } else {
      const Send ready{{}, 0};
      (void)comm.transport().exchange({&ready, 1}, {}, kOther, StreamRef::host());
    }
    for (int again = 0; again < 2; ++again) {
      const Outcome outcome = outcome_of([&] { wait(exchange); });
      EXPECT_EQ(outcome.code, Errc::aborted);
      EXPECT_EQ(outcome.message, "rank 0 aborted: enough");
    }
    EXPECT_THAT(exchange.describe(), HasSubstr("exchange in slot 5"));
  });
}

TEST_P(TransportFailure, AbortEndsAnAllReduceThatSomeoneNeverJoins) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    static thread_local std::vector<float> values(50'021);  // not freed here: see the contract of exchange()
    if (comm.rank() == 0) {
      comm.transport().abort("no gradient");
    } else {
      const Tensor tensor{values.data(), values.size(), DType::f32, Space::host};
      const Outcome outcome =
          outcome_of([&] { wait(comm.transport().all_reduce_sum(tensor, kSlot, StreamRef::host())); });
      EXPECT_EQ(outcome.code, Errc::aborted);
      EXPECT_EQ(outcome.message, "rank 0 aborted: no gradient");
    }
  });
}

}  // namespace
}  // namespace gradwire::test
