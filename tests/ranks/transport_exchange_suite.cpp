// Exchanges: sizes, patterns, order, slots, threads.
#include <numeric>
#include <thread>

#include "ranks/transport_suite.hpp"

namespace gradwire::test {
namespace {

class TransportExchange : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, TransportExchange, ::testing::ValuesIn(worlds()), world_name);

constexpr Slot kSlot{3};

/// Posts this rank's part of a ring step. The receiver's buffer is `into`.
Work post_ring_step(Communicator& comm, const std::vector<std::byte>& out, std::vector<std::byte>& into, Slot slot) {
  const Neighbours ring(comm);
  const Send send{view(out), ring.next};
  const Recv recv{view(into), ring.previous};
  return comm.transport().exchange({&send, 1}, {&recv, 1}, slot, StreamRef::host());
}

TEST_P(TransportExchange, WithNobodyIsComplete) {
  run([](Communicator& comm) {
    const Work work = comm.transport().exchange({}, {}, kSlot, StreamRef::host());
    wait(work);
    EXPECT_TRUE(work.done());
  });
}

TEST_P(TransportExchange, RingStepOfEverySize) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const Neighbours ring(comm);
    for (const std::size_t size : kSizes) {
      const auto out = pattern(comm.rank(), ring.next, size);
      std::vector<std::byte> in(size);
      wait(post_ring_step(comm, out, in, kSlot));
      EXPECT_EQ(in, pattern(ring.previous, comm.rank(), size)) << size << " bytes";
    }
  });
}

TEST_P(TransportExchange, AllToAllOfEverySize) {
  run([](Communicator& comm) {
    for (const std::size_t size : kSizes) {
      std::vector<std::vector<std::byte>> out(static_cast<std::size_t>(comm.size()));
      std::vector<std::vector<std::byte>> in(out.size());
      std::vector<Send> sends;
      std::vector<Recv> recvs;
      for (int peer = 0; peer < comm.size(); ++peer) {
        if (peer == comm.rank()) continue;
        const auto p = static_cast<std::size_t>(peer);
        out[p] = pattern(comm.rank(), peer, size);
        in[p].resize(size);
        sends.push_back({view(out[p]), peer});
        recvs.push_back({view(in[p]), peer});
      }
      wait(comm.transport().exchange(sends, recvs, kSlot, StreamRef::host()));
      for (const Recv& recv : recvs) {
        EXPECT_EQ(in[static_cast<std::size_t>(recv.from)], pattern(recv.from, comm.rank(), size));
      }
    }
  });
}

TEST_P(TransportExchange, ShorterMessageLeavesTheRestAlone) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const Neighbours ring(comm);
    constexpr std::byte kUntouched{0x5a};
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{997}, std::size_t{300'007}}) {
      const auto out = pattern(comm.rank(), ring.next, size);
      std::vector<std::byte> in(size + 400'009, kUntouched);
      wait(post_ring_step(comm, out, in, kSlot));
      auto expected = pattern(ring.previous, comm.rank(), size);
      expected.resize(in.size(), kUntouched);
      EXPECT_EQ(in, expected) << size << " bytes";
    }
  });
}

TEST_P(TransportExchange, SeveralInFlightInOneSlotKeepTheirOrder) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const Neighbours ring(comm);
    const std::vector<std::size_t> sizes{10, 100'003, 0, 7, 50'021, 1};
    std::vector<std::vector<std::byte>> out;
    std::vector<std::vector<std::byte>> in;
    for (std::uint32_t i = 0; i < sizes.size(); ++i) {
      out.push_back(pattern(comm.rank(), ring.next, sizes[i], i));
      in.emplace_back(sizes[i]);
    }
    std::vector<Work> works;
    for (std::size_t i = 0; i < sizes.size(); ++i) works.push_back(post_ring_step(comm, out[i], in[i], kSlot));
    for (auto work = works.rbegin(); work != works.rend(); ++work) work->wait(patience());
    for (std::uint32_t i = 0; i < sizes.size(); ++i) {
      EXPECT_EQ(in[i], pattern(ring.previous, comm.rank(), sizes[i], i)) << "message " << i;
    }
  });
}

TEST_P(TransportExchange, SlotsDoNotMix) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const Neighbours ring(comm);
    constexpr std::uint32_t kSlots = 5;
    constexpr std::size_t kBytes = 20'011;
    std::vector<std::vector<std::byte>> out;
    std::vector<std::vector<std::byte>> in(kSlots, std::vector<std::byte>(kBytes));
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) out.push_back(pattern(comm.rank(), ring.next, kBytes, slot));
    std::vector<std::uint32_t> order(kSlots);
    std::iota(order.begin(), order.end(), 0u);
    if (comm.rank() % 2 == 1) std::reverse(order.begin(), order.end());
    std::vector<Work> works;
    for (const std::uint32_t slot : order) works.push_back(post_ring_step(comm, out[slot], in[slot], Slot{slot}));
    for (const Work& work : works) wait(work);
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
      EXPECT_EQ(in[slot], pattern(ring.previous, comm.rank(), kBytes, slot)) << "slot " << slot;
    }
  });
}

TEST_P(TransportExchange, FromSeveralThreadsAtOnce) {
  run([](Communicator& comm) {
    if (comm.size() == 1 || !comm.transport().info().any_thread) return;
    const Neighbours ring(comm);
    std::array<int, 3> wrong{};
    std::array<Outcome, 3> outcomes;
    const auto one_thread = [&](std::uint32_t thread) {
      for (std::uint32_t round = 0; round < 30; ++round) {
        const std::size_t size = 1 + round * 997;
        const auto out = pattern(comm.rank(), ring.next, size, thread * 1000 + round);
        std::vector<std::byte> in(size);
        wait(post_ring_step(comm, out, in, Slot{thread}));
        if (in != pattern(ring.previous, comm.rank(), size, thread * 1000 + round)) ++wrong[thread];
      }
    };
    {
      std::vector<std::jthread> threads;
      for (std::uint32_t thread = 0; thread < wrong.size(); ++thread) {
        threads.emplace_back([&, thread] { outcomes[thread] = outcome_of([&] { one_thread(thread); }); });
      }
    }
    EXPECT_THAT(wrong, ::testing::Each(0));
    for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.code, Errc::ok) << outcome.message;
  });
}

TEST_P(TransportExchange, IsDrivenByDoneAlone) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const Neighbours ring(comm);
    const auto out = pattern(comm.rank(), ring.next, 300'007);
    std::vector<std::byte> in(out.size());
    const Work work = post_ring_step(comm, out, in, kSlot);
    const Deadline deadline = patience();
    while (!work.done()) ASSERT_LT(std::chrono::steady_clock::now(), deadline) << work.describe();
    EXPECT_TRUE(work.done());
    EXPECT_EQ(in, pattern(ring.previous, comm.rank(), in.size()));
  });
}

TEST_P(TransportExchange, DroppedWorkStillArrives) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const Neighbours ring(comm);
    constexpr std::uint32_t kMessages = 100;
    std::vector<std::vector<std::byte>> out;
    for (std::uint32_t i = 0; i < kMessages; ++i) out.push_back(pattern(comm.rank(), ring.next, 64, i));
    for (const auto& message : out) {
      const Send send{view(message), ring.next};
      (void)comm.transport().exchange({&send, 1}, {}, kSlot, StreamRef::host());
    }
    for (std::uint32_t i = 0; i < kMessages; ++i) {
      std::vector<std::byte> in(64);
      const Recv recv{view(in), ring.previous};
      wait(comm.transport().exchange({}, {&recv, 1}, kSlot, StreamRef::host()));
      EXPECT_EQ(in, pattern(ring.previous, comm.rank(), 64, i)) << "message " << i;
    }
    comm.transport().progress();
    comm.barrier(patience());
  });
}

}  // namespace
}  // namespace gradwire::test
