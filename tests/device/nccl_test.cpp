// What NCCL moves: exchanges and sums of device memory, on the model of NCCL or between several devices.
#include <cstring>
#include <numeric>
#include <thread>

#include "base/cuda.hpp"
#include "base/device.hpp"
#include "base/half.hpp"
#include "device/nccl_suite.hpp"

namespace gradwire::test {
namespace {

constexpr Slot kSlot{3};

class Nccl : public testing::DeviceTest, public ::testing::WithParamInterface<NcclWorld> {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped() || GetParam().ranks <= most_nccl_ranks()) return;
    GTEST_SKIP() << "not tried: " << GetParam().ranks << " ranks need a CUDA device each, there are "
                 << most_nccl_ranks();
  }
  void run(const std::function<void(Communicator&)>& body) { spawn_on_devices(GetParam().make(), body); }
};

std::vector<NcclWorld> nccl_worlds() {
  std::vector<NcclWorld> all;
  for (const int ranks : {1, 2, 3, 4, 7}) all.push_back({fmt::format("local_{}", ranks), ranks});
  for (const int ranks : {1, 2, 3}) all.push_back({fmt::format("verified_{}", ranks), ranks, {.verify = true}});
  for (const int ranks : {1, 3, 4}) {  // nodes of two ranks
    all.push_back({fmt::format("staged_{}", ranks), ranks, {.between_nodes = NcclBetween::host}, false, 2});
  }
  all.push_back({"tcp_3", 3, {}, true});
  all.push_back({"tcp_verified_2", 2, {.verify = true}, true});
  all.push_back({"staged_alone_3", 3, {.between_nodes = NcclBetween::host}, false, 1});
  return all;
}
std::string name_of(const ::testing::TestParamInfo<NcclWorld>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Worlds, Nccl, ::testing::ValuesIn(nccl_worlds()), name_of);

/// An all-to-all of device memory on `stream`; what arrived, by rank.
std::vector<std::vector<std::byte>> all_to_all(Communicator& comm, std::size_t size, StreamRef stream, Slot slot) {
  const device::Stream reading;
  std::vector<std::unique_ptr<OnDevice>> out(static_cast<std::size_t>(comm.size()));
  std::vector<std::unique_ptr<OnDevice>> in(out.size());
  std::vector<Send> sends;
  std::vector<Recv> recvs;
  for (int peer = 0; peer < comm.size(); ++peer) {
    if (peer == comm.rank()) continue;
    const auto p = static_cast<std::size_t>(peer);
    const std::vector<std::byte> bytes = pattern(comm.rank(), peer, size);
    out[p] = std::make_unique<OnDevice>(bytes.data(), size, reading.ref());
    in[p] = std::make_unique<OnDevice>(size);
    sends.push_back({out[p]->bytes(), peer});
    recvs.push_back({in[p]->bytes(), peer});
    device::wait(reading.ref());
  }
  wait(comm.transport().exchange(sends, recvs, slot, stream));
  std::vector<std::vector<std::byte>> arrived(in.size());
  for (const Recv& recv : recvs) {
    arrived[static_cast<std::size_t>(recv.from)] = read(*in[static_cast<std::size_t>(recv.from)], reading);
  }
  return arrived;
}

TEST_P(Nccl, SaysWhatItIs) {
  run([](Communicator& comm) {
    const TransportInfo& info = comm.transport().info();
    EXPECT_EQ(info.name, "nccl");
    EXPECT_THAT(info.detail, ::testing::HasSubstr("NCCL 2."));
    EXPECT_TRUE(comm.transport().reaches(Space::device));
    EXPECT_TRUE(comm.transport().reaches(Space::host));
    EXPECT_EQ(info.nodes.size(), static_cast<std::size_t>(comm.size()));
    comm.barrier(patience());
  });
}

TEST_P(Nccl, AllToAllOfDeviceMemoryOfEverySize) {
  run([](Communicator& comm) {
    const device::Stream stream;
    for (const std::size_t size : {0u, 1u, 13u, 4099u, 300'007u}) {
      for (const StreamRef on : {StreamRef::host(), stream.ref()}) {
        const auto arrived = all_to_all(comm, size, on, kSlot);
        for (int peer = 0; peer < comm.size(); ++peer) {
          if (peer == comm.rank()) continue;
          ASSERT_EQ(arrived[static_cast<std::size_t>(peer)], pattern(peer, comm.rank(), size)) << size << " bytes";
        }
      }
    }
  });
}

/// Written just before and read just after on the caller's stream: the host waits for nothing in between.
TEST_P(Nccl, KeepsTheOrderOfTheCallersStream) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const Neighbours ring(comm);
    const device::Stream stream;
    constexpr std::size_t kBytes = 50'021;
    const std::vector<std::byte> bytes = pattern(comm.rank(), ring.next, kBytes);
    device::Pinned pinned(kBytes);
    std::memcpy(pinned.data(), bytes.data(), kBytes);
    const OnDevice out(kBytes);
    const OnDevice in(kBytes);
    const OnDevice copy(kBytes);
    device::copy(out.data(), pinned.data(), kBytes, stream.ref());
    const Send send{out.bytes(), ring.next};
    const Recv recv{in.bytes(), ring.previous};
    const Work work = comm.transport().exchange({&send, 1}, {&recv, 1}, kSlot, stream.ref());
    work.before(stream.ref());
    device::copy(copy.data(), in.data(), kBytes, stream.ref());
    EXPECT_EQ(read(copy, stream), pattern(ring.previous, comm.rank(), kBytes));
    wait(work);
    EXPECT_TRUE(work.done());
  });
}

TEST_P(Nccl, HostAndDeviceMemoryInOneExchange) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const Neighbours ring(comm);
    const device::Stream stream;
    const std::vector<std::byte> bytes = pattern(comm.rank(), ring.next, 4099);
    const OnDevice out(bytes.data(), bytes.size(), stream.ref());
    const OnDevice in(bytes.size());
    const std::vector<std::byte> verdict = pattern(comm.rank(), ring.next, 7, 1);
    std::vector<std::byte> heard(100);
    const std::array sends{Send{out.bytes(), ring.next}, Send{view(verdict), ring.next}};
    const std::array recvs{Recv{view(heard), ring.previous}, Recv{in.bytes(), ring.previous}};
    const Work work = comm.transport().exchange(sends, recvs, kSlot, stream.ref());
    wait(work);
    EXPECT_EQ(read(in, stream), pattern(ring.previous, comm.rank(), 4099));
    heard.resize(7);
    EXPECT_EQ(heard, pattern(ring.previous, comm.rank(), 7, 1));
  });
}

TEST_P(Nccl, ManyInFlightInSeveralSlotsInOneOrder) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const Neighbours ring(comm);
    const device::Stream stream;
    std::vector<std::unique_ptr<OnDevice>> out;
    std::vector<std::unique_ptr<OnDevice>> in;
    std::vector<Work> works;
    for (std::uint32_t i = 0; i < 12; ++i) {
      const std::size_t size = (i * 997) % 5003;
      const std::vector<std::byte> bytes = pattern(comm.rank(), ring.next, size, i);
      out.push_back(std::make_unique<OnDevice>(bytes.data(), size, stream.ref()));
      in.push_back(std::make_unique<OnDevice>(size));
      const Send send{out.back()->bytes(), ring.next};
      const Recv recv{in.back()->bytes(), ring.previous};
      works.push_back(comm.transport().exchange({&send, 1}, {&recv, 1}, Slot{i % 5}, stream.ref()));
    }
    for (auto work = works.rbegin(); work != works.rend(); ++work) wait(*work);
    for (std::uint32_t i = 0; i < 12; ++i) {
      EXPECT_EQ(read(*in[i], stream), pattern(ring.previous, comm.rank(), (i * 997) % 5003, i)) << "message " << i;
    }
  });
}

/// More than are handed to the device at once.
TEST_P(Nccl, HundredsInFlight) {
  run([](Communicator& comm) {
    if (comm.size() == 1 || comm.size() > 3) return;
    const Neighbours ring(comm);
    const device::Stream stream;
    constexpr std::size_t kMessages = 200;
    const std::vector<std::byte> bytes = pattern(comm.rank(), ring.next, kMessages * 8);
    const OnDevice out(bytes.data(), bytes.size(), stream.ref());
    const OnDevice in(bytes.size());
    std::vector<Work> works;
    for (std::size_t i = 0; i < kMessages; ++i) {
      const Send send{out.bytes().slice(i * 8, 8), ring.next};
      const Recv recv{in.bytes().slice(i * 8, 8), ring.previous};
      works.push_back(comm.transport().exchange({&send, 1}, {&recv, 1}, Slot{1}, stream.ref()));
    }
    for (const Work& work : works) wait(work);
    EXPECT_EQ(read(in, stream), pattern(ring.previous, comm.rank(), kMessages * 8));
  });
}

TEST_P(Nccl, DroppedWorkStillArrives) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const Neighbours ring(comm);
    const device::Stream stream;
    const std::vector<std::byte> bytes = pattern(comm.rank(), ring.next, 4099);
    const OnDevice out(bytes.data(), bytes.size(), stream.ref());
    const OnDevice in(bytes.size());
    const Send send{out.bytes(), ring.next};
    const Recv recv{in.bytes(), ring.previous};
    // Two of one rank may be one of another: what matches is the order of messages between two ranks.
    if (comm.rank() % 2 == 0) {
      (void)comm.transport().exchange({&send, 1}, {}, kSlot, stream.ref());
      wait(comm.transport().exchange({}, {&recv, 1}, kSlot, stream.ref()));
    } else {
      (void)comm.transport().exchange({}, {&recv, 1}, kSlot, stream.ref());
      wait(comm.transport().exchange({&send, 1}, {}, kSlot, stream.ref()));
    }
    comm.barrier(patience());
    const Work last = comm.transport().exchange({}, {}, kSlot, stream.ref());  // all that was posted comes before it
    wait(last);
    for (const Deadline deadline = patience(); read(in, stream) != pattern(ring.previous, comm.rank(), 4099);) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
      comm.transport().progress();
    }
  });
}

// ---- sums

float small_integer(int rank, std::size_t i) {
  return static_cast<float>((i * 31 + static_cast<std::size_t>(rank) * 17 + i / 7) % 17) - 8.0F;
}

/// Terms of which all sums are exact, by dtype; what rank `rank` adds as element i.
std::uint64_t integer_term(DType dtype, int ranks, int rank, std::size_t i) {
  const std::uint64_t most = (dtype == DType::u8    ? 0xffu
                              : dtype == DType::u16 ? 0xffffu
                                                    : 0xffff'ffffu) /
                             static_cast<std::uint64_t>(ranks);
  return (static_cast<std::uint64_t>(rank + 1) * 2'654'435'761U + i * 40'503U) % (most + 1);
}

void store(std::byte* data, DType dtype, std::size_t i, double value) {
  if (is_float(dtype)) return store_f32(data, dtype, i, static_cast<float>(value));
  const auto integer = static_cast<std::uint32_t>(value);
  std::memcpy(data + i * size_of(dtype), &integer, size_of(dtype));  // little-endian, as all that gradwire runs on
}

std::vector<std::byte> terms(Communicator& comm, DType dtype, std::size_t count) {
  std::vector<std::byte> values(count * size_of(dtype));
  for (std::size_t i = 0; i < count; ++i) {
    store(values.data(), dtype, i,
          is_float(dtype) ? small_integer(comm.rank(), i)
                          : static_cast<double>(integer_term(dtype, comm.size(), comm.rank(), i)));
  }
  return values;
}
std::vector<std::byte> sums(Communicator& comm, DType dtype, std::size_t count) {
  std::vector<std::byte> values(count * size_of(dtype));
  for (std::size_t i = 0; i < count; ++i) {
    double sum = 0;
    for (int rank = 0; rank < comm.size(); ++rank) {
      sum += is_float(dtype) ? static_cast<double>(small_integer(rank, i))
                             : static_cast<double>(integer_term(dtype, comm.size(), rank, i));
    }
    store(values.data(), dtype, i, sum);
  }
  return values;
}

/// A communicator stays on the device on which it was made, whichever its callers have.
TEST_P(Nccl, CalledWhereAnotherDeviceIsCurrent) {
  if (device::count() < 2) GTEST_SKIP() << "not tried: it needs 2 devices";
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const Neighbours ring(comm);
    const device::Stream stream;
    const std::vector<std::byte> bytes = pattern(comm.rank(), ring.next, 4099);
    const OnDevice out(bytes.data(), bytes.size(), stream.ref());
    const OnDevice in(bytes.size());
    const OnDevice ones(6 * sizeof(std::uint16_t), 2);
    const std::vector<std::uint16_t> one(5, 1);  // an odd number of u16, at an address for which NCCL has no type
    device::copy(ones.data(), one.data(), 10, stream.ref());
    const device::Scope scope((device::current() + 1) % device::count());
    const Send send{out.bytes(), ring.next};
    const Recv recv{in.bytes(), ring.previous};
    const Work exchange = comm.transport().exchange({&send, 1}, {&recv, 1}, kSlot, stream.ref());
    const Work sum = comm.transport().all_reduce_sum(ones.tensor(5, DType::u16), kSlot, stream.ref());
    exchange.before(stream.ref());
    std::thread([&] { wait(sum); }).join();
    wait(exchange);
    EXPECT_EQ(read(in, stream), pattern(ring.previous, comm.rank(), 4099));
    std::vector<std::uint16_t> sums(5);
    device::copy(sums.data(), ones.data(), 10, stream.ref());
    device::wait(stream.ref());
    EXPECT_EQ(sums, std::vector<std::uint16_t>(5, static_cast<std::uint16_t>(comm.size())));
  });
}

constexpr DType kAllDTypes[] = {DType::f32, DType::f16, DType::bf16, DType::u8, DType::u16, DType::u32};

/// u16 at addresses that are no multiples of 4 on some ranks only.
TEST_P(Nccl, SumsEveryDtypeExactly) {
  run([](Communicator& comm) {
    const device::Stream stream;
    for (const DType dtype : kAllDTypes) {
      for (const std::size_t count : {0u, 1u, 2u, 7u, 30'001u}) {
        const std::size_t shift = comm.rank() % 2 == 0 ? 0 : size_of(dtype);
        const std::vector<std::byte> beyond(4, std::byte{0x5a});  // of the tensor's last element
        std::vector<std::byte> mine = terms(comm, dtype, count);
        mine.insert(mine.end(), beyond.begin(), beyond.end());
        std::vector<std::byte> expected = sums(comm, dtype, count);
        expected.insert(expected.end(), beyond.begin(), beyond.end());
        const OnDevice values(mine.data(), mine.size(), stream.ref(), shift);
        const Work work = comm.transport().all_reduce_sum(values.tensor(count, dtype), Slot{1}, stream.ref());
        work.before(stream.ref());
        ASSERT_EQ(read(values, stream), expected) << count << " elements of " << name(dtype);
        wait(work);
      }
    }
  });
}

TEST_P(Nccl, SumsInFlightBesideExchanges) {
  run([](Communicator& comm) {
    const device::Stream stream;
    std::vector<std::unique_ptr<OnDevice>> values;
    std::vector<Work> works;
    for (std::uint32_t i = 0; i < 9; ++i) {
      const DType dtype = kAllDTypes[i % 6];
      const std::vector<std::byte> mine = terms(comm, dtype, 101 * i + 1);
      values.push_back(std::make_unique<OnDevice>(mine.data(), mine.size(), stream.ref()));
      works.push_back(
          comm.transport().all_reduce_sum(values.back()->tensor(101 * i + 1, dtype), Slot{i % 3}, stream.ref()));
      if (i % 3 == 0) (void)all_to_all(comm, 100, stream.ref(), Slot{i % 3});
    }
    for (const Work& work : works) wait(work);
    for (std::uint32_t i = 0; i < 9; ++i) {
      EXPECT_EQ(read(*values[i], stream), sums(comm, kAllDTypes[i % 6], 101 * i + 1)) << i;
    }
  });
}

}  // namespace
}  // namespace gradwire::test
