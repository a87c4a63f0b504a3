// What an allreduce promises beyond the law: closed forms, mixed buckets, independence of segmentation, verdicts.
#include "ranks/allreduce_suite.hpp"

namespace gradwire::test {
namespace {

class Allreduce : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, Allreduce, ::testing::ValuesIn(worlds()), world_name);

constexpr const char* kLossyAlgorithms[] = {"scatter_reduce", "ring", "gather_sum", "hierarchical"};

std::vector<std::byte> bits_of(const TestParam& param) { return param.tensor; }

TEST_P(Allreduce, SumsIntegersExactly) {
  run([](Communicator& comm) {
    for (const char* algorithm : {"dense", "scatter_reduce", "ring", "gather_sum", "hierarchical"}) {
      std::vector<TestParam> params;
      params.emplace_back("none", 10'007);
      params[0].fill([&](std::size_t i) { return static_cast<float>((comm.rank() + 1) * static_cast<int>(i % 1000)); });
      reduce(comm, params, {.algorithm = algorithm, .segment_bytes = 4096});
      const auto n = static_cast<float>(comm.size());
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < 10'007; ++i) {
        wrong += params[0].result(i) != n * (n + 1) / 2 * static_cast<float>(i % 1000) ? 1 : 0;
        wrong += params[0].residual[i] != 0 ? 1 : 0;
      }
      EXPECT_EQ(wrong, 0u) << algorithm;
    }
  });
}

/// A constant tensor is its own norm: every level it needs is exact, up to the rounding of its scale.
TEST_P(Allreduce, SumsConstantsThroughQuantisers) {
  run([](Communicator& comm) {
    for (const char* algorithm : kLossyAlgorithms) {
      for (const char* spec : {"q8", "q4", "q2", "quantize(bits=6,norm=minmax)"}) {
        std::vector<TestParam> params;
        params.emplace_back(spec, 5000);
        params[0].fill([&](std::size_t) { return static_cast<float>(comm.rank() + 1); });
        reduce(comm, params, {.algorithm = algorithm, .segment_bytes = 4096});
        const auto n = static_cast<float>(comm.size());
        for (std::size_t i = 0; i < 5000; i += 499) {
          ASSERT_NEAR(params[0].result(i), n * (n + 1) / 2, n * n * 1e-6F) << algorithm << " " << spec;
        }
      }
    }
  });
}

std::vector<TestParam> mixed_bucket(const Communicator& comm) {
  std::vector<TestParam> params;
  params.emplace_back("q4", 3001);
  params.emplace_back("none", 17);
  params.emplace_back("q8(bucket=64)", 1, DType::f16);
  params.emplace_back("f16", 2048);
  params.emplace_back("q2(round=stochastic)", 40'000, DType::bf16);
  params.emplace_back("quantize(bits=7,bucket=1024,norm=minmax)", 999, DType::f16);
  for (unsigned i = 0; i < params.size(); ++i) params[i].fill_random(comm.rank(), i + 1);
  return params;
}

TEST_P(Allreduce, CarriesBucketsOfManyKinds) {
  run([](Communicator& comm) {
    for (const char* algorithm : kLossyAlgorithms) {
      for (const std::size_t segment_bytes : {1024u, 16u << 10, 1u << 20}) {
        std::vector<TestParam> params = mixed_bucket(comm);
        reduce(comm, params, {.algorithm = algorithm, .segment_bytes = segment_bytes});
        for (const TestParam& param : params) {
          expect_law(comm, param, fmt::format("{} {} {}", algorithm, segment_bytes, param.spec));
        }
      }
    }
  });
}

/// Scale, cut and random numbers of an element depend on its place in its parameter, not on how it travelled.
TEST_P(Allreduce, ResultDoesNotDependOnSegments) {
  run([](Communicator& comm) {
    for (const char* algorithm : {"scatter_reduce", "gather_sum", "hierarchical"}) {
      std::vector<TestParam> coarse = mixed_bucket(comm);
      std::vector<TestParam> fine = mixed_bucket(comm);
      reduce(comm, coarse, {.algorithm = algorithm, .segment_bytes = 1u << 20, .seed = 7}, 3);
      reduce(comm, fine, {.algorithm = algorithm, .segment_bytes = 1024, .seed = 7}, 3);
      for (std::size_t i = 0; i < coarse.size(); ++i) {
        EXPECT_EQ(bits_of(coarse[i]), bits_of(fine[i])) << algorithm << " " << coarse[i].spec;
      }
    }
  });
}

TEST_P(Allreduce, SeedAndStepDrawTheNumbers) {
  run([](Communicator& comm) {
    const auto draw = [&](std::uint64_t seed, std::uint64_t step) {
      std::vector<TestParam> params;
      params.emplace_back("q2(round=stochastic)", 4096);
      params[0].fill_random(comm.rank());
      reduce(comm, params, {.algorithm = "scatter_reduce", .seed = seed}, step);
      return bits_of(params[0]);
    };
    EXPECT_EQ(draw(1, 1), draw(1, 1));
    EXPECT_NE(draw(1, 1), draw(1, 2));
    EXPECT_NE(draw(1, 1), draw(2, 1));
  });
}

/// A compressor that the algorithm carries.
std::string spec_for(std::string_view algorithm) {
  if (algorithm == "dense") return "none";
  return algorithm == "integer_sum" ? "thc(block=1024)" : "q4";
}

TEST_P(Allreduce, NonFiniteInputIsAVerdictOnAllRanks) {
  run([](Communicator& comm) {
    const int culprit = comm.size() / 2;
    for (const char* algorithm : {"dense", "scatter_reduce", "ring", "gather_sum", "hierarchical", "integer_sum"}) {
      const std::string spec = spec_for(algorithm);
      for (const float poison : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
        std::vector<TestParam> params;
        for (const std::size_t count : {100u, 30'000u, 5u}) params.emplace_back(spec, count);
        for (TestParam& param : params) param.fill_random(comm.rank());
        if (comm.rank() == culprit) store_f32(params[1].tensor.data(), DType::f32, 12'345, poison);
        const Outcome outcome =
            outcome_of([&] { reduce(comm, params, {.algorithm = algorithm, .segment_bytes = 4096}); });
        EXPECT_EQ(outcome.code, Errc::non_finite) << algorithm << ": " << outcome.message;
        EXPECT_THAT(outcome.message, ::testing::HasSubstr(fmt::format("parameter 1 on rank {}", culprit))) << algorithm;

        std::vector<TestParam> next;
        next.emplace_back("q4", 1000);
        next[0].fill_random(comm.rank());
        reduce(comm, next, {.algorithm = "ring"});
        expect_law(comm, next[0], "the operation after a verdict");
      }
    }
  });
}

TEST_P(Allreduce, RanksAgreeOnOneVerdict) {
  run([](Communicator& comm) {
    for (const char* algorithm : {"scatter_reduce", "ring", "gather_sum", "hierarchical", "integer_sum"}) {
      std::vector<TestParam> params;
      for (int i = 0; i < 2; ++i) params.emplace_back(spec_for(algorithm), 5000);
      for (TestParam& param : params) param.fill_random(comm.rank());
      // Each rank finds a NaN of its own first; all name rank 0's.
      store_f32(params[comm.rank() == 0 ? 1 : 0].tensor.data(), DType::f32, 77, std::nanf(""));
      const Outcome outcome = outcome_of([&] { reduce(comm, params, {.algorithm = algorithm}); });
      EXPECT_EQ(outcome.code, Errc::non_finite) << algorithm;
      EXPECT_THAT(outcome.message, ::testing::HasSubstr("parameter 1 on rank 0")) << algorithm;
    }
  });
}

TEST_P(Allreduce, SumThatOverflowsIsAVerdict) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    std::vector<TestParam> params;
    params.emplace_back("none", 10);
    params[0].fill([](std::size_t) { return 3e38F; });
    EXPECT_EQ(outcome_of([&] { reduce(comm, params, {.algorithm = "dense"}); }).code, Errc::non_finite);
    for (const char* algorithm : kLossyAlgorithms) {
      params[0].fill([](std::size_t) { return 3e38F; });
      EXPECT_EQ(outcome_of([&] { reduce(comm, params, {.algorithm = algorithm}); }).code, Errc::non_finite);
    }
  });
}

/// A 16-bit sum beyond the range saturates, and its owner owes the rest.
TEST_P(Allreduce, SixteenBitSumsSaturate) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    for (const char* algorithm : kLossyAlgorithms) {
      for (const char* spec : {"q8", "none"}) {
        std::vector<TestParam> params;
        params.emplace_back(spec, 600, DType::f16);
        params[0].fill([](std::size_t i) { return i % 7 == 0 ? 60'000.0F : 3.0F; });
        reduce(comm, params, {.algorithm = algorithm});
        EXPECT_EQ(params[0].result(0), 65'504.0F) << algorithm << " " << spec;
        expect_law(comm, params[0], fmt::format("{} {}", algorithm, spec));
      }
    }
  });
}

TEST_P(Allreduce, RefusalIsAVerdictOnAllRanks) {
  run([](Communicator& comm) {
    for (const char* algorithm : {"dense", "scatter_reduce", "ring", "gather_sum", "hierarchical", "integer_sum"}) {
      const bool exact = std::string_view(algorithm) != "integer_sum";
      const std::string spec = exact && std::string_view(algorithm) != "dense" ? "q8" : spec_for(algorithm);
      const std::vector<float> values =
          expect_refusals<PersistentAllreduce>(comm, spec, 3000, {.algorithm = algorithm, .segment_bytes = 2048});
      const auto n = static_cast<float>(comm.size());
      EXPECT_NEAR(values[1234], 2.0F * n, exact ? 1e-4F : 2.0F * n) << algorithm;
    }
  });
}

/// Codes of several widths, several dtypes and an empty item in one bucket.
TEST_P(Allreduce, IntegerSumCarriesMixedBuckets) {
  run([](Communicator& comm) {
    std::vector<TestParam> params;
    params.emplace_back("thc(4)", 10'001);
    params.emplace_back("thc(8,block=64)", 3000, DType::f16);
    params.emplace_back("thc(4)", 0);
    params.emplace_back("thc(1,block=32)", 77, DType::bf16);
    params.emplace_back("thc(6,block=512)", 5000);
    for (unsigned i = 0; i < params.size(); ++i) params[i].fill_random(comm.rank(), i + 1);
    reduce(comm, params, {.algorithm = "auto"});
    for (const TestParam& param : params) expect_law(comm, param, param.spec);
  });
}

/// Each bucket has its own slot, all are in flight at once, ranks start them at their own pace and wait in any order.
TEST_P(Allreduce, IntegerSumsAndDenseInFlightTogether) {
  run([](Communicator& comm) {
    for (int round = 0; round < 3; ++round) {
      std::vector<std::vector<TestParam>> buckets(6);
      std::vector<Work> works;
      for (std::uint32_t b = 0; b < buckets.size(); ++b) {
        buckets[b].emplace_back(b % 3 == 1 ? "none" : b % 3 == 2 ? "q4" : "thc", 3000 + 1000 * b);
        buckets[b][0].fill_random(comm.rank(), b);
        if (comm.rank() == (round + static_cast<int>(b)) % comm.size())
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
        works.push_back(allreduce_sum(comm, items_of(buckets[b]), Slot{10 + b}, StreamRef::host()));
      }
      for (auto work = works.rbegin(); work != works.rend(); ++work) work->wait(patience());
      for (const auto& bucket : buckets) expect_law(comm, bucket[0], bucket[0].spec);
    }
  });
}

/// The width of the integers, both ways, and the step and one range a block to everybody.
TEST_P(Allreduce, IntegerSumSendsTheIntegersOnce) {
  run([](Communicator& comm) {
    const auto n = static_cast<std::size_t>(comm.size());
    std::vector<BucketItem> items;
    items.push_back({ParamId{0}, 1 << 16, DType::f32, make_compressor("thc"), "w"});
    PersistentAllreduce operation(comm, items, Slot{3});
    EXPECT_EQ(operation.algorithm(), "integer_sum");
    const Buffer workspace(operation.workspace_bytes());
    std::vector<float> values(1 << 16, 1.0F);
    const ItemBuffers buffers{{values.data(), values.size()}, {}};
    operation.start({&buffers, 1}, workspace.bytes(), 0, StreamRef::host()).wait(patience());
    const std::size_t codes = 2 * (n - 1) * (std::size_t{1} << 16) / n;
    EXPECT_EQ(operation.stats().wire_bytes, codes + (n - 1) * (32 + 16 + 16 * sizeof(float)));
  });
}

}  // namespace
}  // namespace gradwire::test
