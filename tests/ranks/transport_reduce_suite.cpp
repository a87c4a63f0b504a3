// Dense all-reduces, agreement and barriers.
#include <cstring>
#include <random>

#include "base/half.hpp"
#include "ranks/transport_suite.hpp"

namespace gradwire::test {
namespace {

class TransportReduce : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, TransportReduce, ::testing::ValuesIn(worlds()), world_name);

/// Integers from -8 to 8: their sums over up to 16 ranks are exact in every dtype.
float small_integer(int rank, std::size_t i) {
  return static_cast<float>((i * 31 + static_cast<std::size_t>(rank) * 17 + i / 7) % 17) - 8.0F;
}
float sum_of_small_integers(int ranks, std::size_t i) {
  float sum = 0;
  for (int rank = 0; rank < ranks; ++rank) sum += small_integer(rank, i);
  return sum;
}

struct Values {
  Values(std::size_t count_, DType dtype_) : count(count_), dtype(dtype_), storage(count_ * size_of(dtype_)) {}
  [[nodiscard]] Tensor tensor() { return {storage.data(), count, dtype, Space::host}; }
  void fill(int rank) {
    for (std::size_t i = 0; i < count; ++i) store_f32(storage.data(), dtype, i, small_integer(rank, i));
  }
  /// Elements that are not the exact sum.
  [[nodiscard]] std::size_t wrong(int ranks) const {
    std::size_t bad = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (load_f32(storage.data(), dtype, i) != sum_of_small_integers(ranks, i)) ++bad;
    }
    return bad;
  }
  std::size_t count;
  DType dtype;
  std::vector<std::byte> storage;
};

TEST_P(TransportReduce, SumsEveryDtypeAndSizeExactly) {
  run([](Communicator& comm) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{100'003}}) {
        Values values(count, dtype);
        values.fill(comm.rank());
        wait(comm.transport().all_reduce_sum(values.tensor(), Slot{1}, StreamRef::host()));
        EXPECT_EQ(values.wrong(comm.size()), 0u) << count << " elements of " << name(dtype);
      }
    }
  });
}

template <class T>
void expect_integer_sums(const Communicator& comm, DType dtype, std::uint64_t largest_term) {
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{100'003}}) {
    const auto term = [&](int rank, std::size_t i) {
      return (static_cast<std::uint64_t>(rank + 1) * 2'654'435'761U + i * 40'503U) % (largest_term + 1);
    };
    std::vector<T> values(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<T>(term(comm.rank(), i));
    comm.transport().all_reduce_sum({values.data(), count, dtype}, Slot{1}, StreamRef::host()).wait(patience());
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < count; ++i) {
      std::uint64_t sum = 0;
      for (int rank = 0; rank < comm.size(); ++rank) sum += term(rank, i);
      wrong += values[i] != sum ? 1 : 0;
    }
    EXPECT_EQ(wrong, 0u) << count << " elements of " << name(dtype);
  }
}

/// Up to the largest sums that each holds.
TEST_P(TransportReduce, SumsIntegersExactly) {
  run([](Communicator& comm) {
    const auto n = static_cast<std::uint64_t>(comm.size());
    expect_integer_sums<std::uint8_t>(comm, DType::u8, 0xff / n);
    expect_integer_sums<std::uint16_t>(comm, DType::u16, 0xffff / n);
    expect_integer_sums<std::uint32_t>(comm, DType::u32, 0xffff'ffff / n);
  });
}

TEST_P(TransportReduce, RoundedSumsAreTheSameBitsOnAllRanks) {
  run([](Communicator& comm) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      Values values(65'537, dtype);
      std::mt19937 random(static_cast<unsigned>(comm.rank()) + 1);
      std::normal_distribution<float> normal(0.0F, 3.0F);
      for (std::size_t i = 0; i < values.count; ++i) store_f32(values.storage.data(), dtype, i, normal(random));
      wait(comm.transport().all_reduce_sum(values.tensor(), Slot{1}, StreamRef::host()));

      std::vector<Send> sends;
      std::vector<Recv> recvs;
      std::vector<std::vector<std::byte>> others(static_cast<std::size_t>(comm.size()),
                                                 std::vector<std::byte>(values.storage.size()));
      for (int peer = 0; peer < comm.size(); ++peer) {
        if (peer == comm.rank()) continue;
        sends.push_back({view(std::as_const(values.storage)), peer});
        recvs.push_back({view(others[static_cast<std::size_t>(peer)]), peer});
      }
      wait(comm.transport().exchange(sends, recvs, Slot{2}, StreamRef::host()));
      for (const Recv& recv : recvs) {
        EXPECT_EQ(std::memcmp(recv.bytes.data, values.storage.data(), values.storage.size()), 0)
            << name(dtype) << ": ranks " << comm.rank() << " and " << recv.from << " differ";
      }
    }
  });
}

TEST_P(TransportReduce, SeveralInFlightInSeveralSlots) {
  run([](Communicator& comm) {
    std::vector<Values> values;
    for (std::size_t i = 0; i < 6; ++i) values.emplace_back(1000 * i + 3, i % 2 == 0 ? DType::f32 : DType::bf16);
    std::vector<Work> works;
    for (std::uint32_t i = 0; i < values.size(); ++i) {
      values[i].fill(comm.rank());
      works.push_back(comm.transport().all_reduce_sum(values[i].tensor(), Slot{i % 3}, StreamRef::host()));
    }
    for (auto work = works.rbegin(); work != works.rend(); ++work) work->wait(patience());
    for (const Values& v : values) EXPECT_EQ(v.wrong(comm.size()), 0u) << v.count << " elements";
  });
}

TEST_P(TransportReduce, AgreementOfEqualEntriesPasses) {
  run([](Communicator& comm) {
    const std::vector<Agreement> entries{
        {"operation", "7"}, {"parameter fc1.weight", "f32[784,512] q4 + ef"}, {"", ""}};
    for (int round = 0; round < 3; ++round) comm.agree(entries, patience());
    comm.agree({}, patience());
  });
}

TEST_P(TransportReduce, DisagreementNamesRankKeyAndBothValues) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const bool odd_one = comm.rank() == comm.size() - 1;
    const std::vector<Agreement> entries{{"operation", "7"}, {"parameter fc1", odd_one ? "f32[10] q8" : "f32[10] q4"}};
    const Outcome outcome = outcome_of([&] { comm.agree(entries, patience()); });
    EXPECT_EQ(outcome.code, Errc::rank_mismatch);
    EXPECT_THAT(outcome.message, ::testing::HasSubstr("parameter fc1"));
    EXPECT_THAT(outcome.message, ::testing::HasSubstr("'f32[10] q4'"));
    EXPECT_THAT(outcome.message, ::testing::HasSubstr("'f32[10] q8'"));
    EXPECT_THAT(outcome.message, ::testing::HasSubstr(fmt::format("rank {}", comm.size() - 1)));
    comm.agree({}, patience());  // a disagreement is no breakdown
  });
}

TEST_P(TransportReduce, DisagreementOverKeysOrTheirNumber) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const bool odd_one = comm.rank() == comm.size() - 1;
    std::vector<Agreement> entries{{"first", "1"}, {odd_one ? "third" : "second", "2"}};
    const Outcome other_key = outcome_of([&] { comm.agree(entries, patience()); });
    EXPECT_EQ(other_key.code, Errc::rank_mismatch);
    EXPECT_THAT(other_key.message, ::testing::AllOf(::testing::HasSubstr("'second'"), ::testing::HasSubstr("'third'")));

    entries[1].key = "second";
    if (odd_one) entries.push_back({"extra", "3"});
    const Outcome other_length = outcome_of([&] { comm.agree(entries, patience()); });
    EXPECT_EQ(other_length.code, Errc::rank_mismatch);
    EXPECT_THAT(other_length.message, ::testing::HasSubstr("'extra'"));
  });
}

TEST_P(TransportReduce, NobodyLeavesABarrierBeforeAllHaveEntered) {
  run([](Communicator& comm) {
    using Clock = std::chrono::steady_clock;  // one clock for all processes of a host
    for (int late = 0; late < comm.size(); ++late) {
      if (comm.rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      const auto entered = Clock::now().time_since_epoch().count();
      comm.barrier(patience());
      const auto left = Clock::now().time_since_epoch().count();
      std::vector<std::int64_t> entries(static_cast<std::size_t>(comm.size()), entered);
      std::vector<Send> sends;
      std::vector<Recv> recvs;
      const auto bytes = [&](int rank) {
        return Bytes{reinterpret_cast<std::byte*>(&entries[static_cast<std::size_t>(rank)]), sizeof(std::int64_t)};
      };
      for (int peer = 0; peer < comm.size(); ++peer) {
        if (peer == comm.rank()) continue;
        sends.push_back({bytes(comm.rank()), peer});
        recvs.push_back({bytes(peer), peer});
      }
      wait(comm.transport().exchange(sends, recvs, Slot{0}, StreamRef::host()));
      EXPECT_THAT(entries, ::testing::Each(::testing::Le(left)));
    }
  });
}

}  // namespace
}  // namespace gradwire::test
