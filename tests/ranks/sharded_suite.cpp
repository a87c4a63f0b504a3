// Reduce-scatter and all-gather: the law of each, their agreement with the allreduce they are halves of, verdicts.
#include "ranks/allreduce_suite.hpp"
#include "ranks/steady.hpp"

#include "gradwire/sharded.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;

class Sharded : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, Sharded, ::testing::ValuesIn(worlds()), world_name);

constexpr const char* kSpecs[] = {"none",
                                  "f16",
                                  "q8",
                                  "q4",
                                  "quantize(bits=3,bucket=96,norm=l2)",
                                  "quantize(bits=1,bucket=32,norm=minmax,round=stochastic)"};

std::vector<BucketItem> bucket_of(const std::vector<TestParam>& params) {
  std::vector<BucketItem> items;
  for (std::size_t i = 0; i < params.size(); ++i) {
    items.push_back({ParamId{static_cast<std::uint32_t>(i)}, params[i].input.size(), params[i].dtype,
                     make_compressor(params[i].spec)});
  }
  return items;
}

/// By item and element: whether this rank owns it.
std::vector<std::vector<bool>> owned(const Communicator& comm, const std::vector<TestParam>& params) {
  std::vector<std::vector<bool>> mask;
  for (const TestParam& param : params) mask.emplace_back(param.input.size(), false);
  for (const Shard& shard : shard_of(bucket_of(params), comm.size(), comm.rank())) {
    for (std::size_t i = 0; i < shard.count; ++i) mask[shard.item][shard.first + i] = true;
  }
  return mask;
}

void scatter(const Communicator& comm, std::vector<TestParam>& params, const AllreduceOptions& options = {}) {
  reduce_scatter_sum(comm, items_of(params), Slot{5}, StreamRef::host(), options).wait(patience());
}
void gather(const Communicator& comm, std::vector<TestParam>& params, const AllreduceOptions& options = {}) {
  all_gather(comm, items_of(params), Slot{5}, StreamRef::host(), options).wait(patience());
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

/// What all ranks have in their shards, where each gives zero for the rest, counted against inputs and residuals.
void expect_scattered_law(const Communicator& comm, const TestParam& param, const std::vector<bool>& mine,
                          const std::string& what) {
  std::vector<float> results = param.results();
  std::size_t changed = 0;
  std::size_t owing = 0;
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (mine[i]) {
      owing += param.dtype == DType::f32 && param.residual[i] != 0 ? 1 : 0;
    } else {
      changed += results[i] != param.input[i] ? 1 : 0;
      results[i] = 0;
    }
  }
  EXPECT_EQ(changed, 0u) << what << ": elements of other shards that did not keep their input";
  EXPECT_EQ(owing, 0u) << what << ": elements of the own shard with a residual";
  const auto inputs = gather_slices(comm, param.input);
  const auto residuals = gather_slices(comm, param.residual);
  const auto shards = gather_slices(comm, results);
  double worst = 0;
  double magnitude = 0;
  for (std::size_t i = 0; i < inputs[0].size(); ++i) {
    double balance = 0;
    for (std::size_t rank = 0; rank < inputs.size(); ++rank) {
      magnitude = std::max(magnitude, std::fabs(static_cast<double>(inputs[rank][i])));
      balance += static_cast<double>(inputs[rank][i]) - static_cast<double>(residuals[rank][i]) -
                 static_cast<double>(shards[rank][i]);
    }
    worst = std::isfinite(balance) ? std::max(worst, std::fabs(balance)) : HUGE_VAL;
  }
  const double n = comm.size();
  EXPECT_LE(worst, 4 * n * n * magnitude * std::ldexp(1.0, -24)) << what << ": the law";
}

TEST_P(Sharded, ShardsPartitionTheBucketAtBlocks) {
  run([](Communicator& comm) {
    const std::vector<BucketItem> items = bucket_of(mixed_bucket(comm));
    std::vector<std::size_t> next(items.size(), 0);
    std::size_t last_item = 0;
    for (int rank = 0; rank < comm.size(); ++rank) {
      for (const Shard& shard : shard_of(items, comm.size(), rank)) {
        EXPECT_GE(shard.item, last_item);
        EXPECT_GT(shard.count, 0u);
        EXPECT_EQ(shard.first, next[shard.item]);
        EXPECT_EQ(shard.first % items[shard.item].compressor.traits().block_elems, 0u);
        next[shard.item] = shard.first + shard.count;
        last_item = shard.item;
      }
    }
    for (std::size_t i = 0; i < items.size(); ++i) EXPECT_EQ(next[i], items[i].count);
    EXPECT_EQ(outcome_of([&] { (void)shard_of(items, 2, 2); }).code, Errc::invalid_argument);
  });
}

TEST_P(Sharded, ReduceScatterKeepsTheLaw) {
  run([](Communicator& comm) {
    const auto n = static_cast<std::size_t>(comm.size());
    for (const char* spec : kSpecs) {
      for (const std::size_t size : {std::size_t{0}, std::size_t{1}, n - 1, n, std::size_t{997}, std::size_t{60'013}}) {
        for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
          std::vector<TestParam> params;
          params.emplace_back(spec, size, dtype);
          params[0].fill_random(comm.rank());
          scatter(comm, params, {.segment_bytes = 4096});
          expect_scattered_law(comm, params[0], owned(comm, params)[0],
                               fmt::format("{}, {} elements of {}", spec, size, name(dtype)));
        }
      }
    }
    std::vector<TestParam> params = mixed_bucket(comm);
    scatter(comm, params, {.segment_bytes = 8192});
    for (std::size_t i = 0; i < params.size(); ++i) {
      expect_scattered_law(comm, params[i], owned(comm, params)[i], "in a bucket, " + params[i].spec);
    }
  });
}

/// Integers sum exactly whatever the compressor does to them on the way to rank 0 .. n-1's shards of constants.
TEST_P(Sharded, ReduceScatterSumsIntegersExactly) {
  run([](Communicator& comm) {
    std::vector<TestParam> params;
    params.emplace_back("none", 10'007);
    params[0].fill([&](std::size_t i) { return static_cast<float>((comm.rank() + 1) * static_cast<int>(i % 1000)); });
    scatter(comm, params, {.segment_bytes = 4096});
    const auto n = static_cast<float>(comm.size());
    const std::vector<bool> mine = owned(comm, params)[0];
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < mine.size(); ++i) {
      if (mine[i]) wrong += params[0].result(i) != n * (n + 1) / 2 * static_cast<float>(i % 1000) ? 1 : 0;
    }
    EXPECT_EQ(wrong, 0u);
  });
}

TEST_P(Sharded, AllGatherKeepsTheLaw) {
  run([](Communicator& comm) {
    const auto gather_and_check = [&](std::vector<TestParam> params, const std::string& what) {
      const auto mine = owned(comm, params);
      for (std::size_t p = 0; p < params.size(); ++p) {
        for (std::size_t i = 0; i < mine[p].size(); ++i) {
          if (mine[p][i]) continue;
          store_f32(params[p].tensor.data(), params[p].dtype, i, std::nanf(""));  // nobody may look at it
          params[p].input[i] = 0;
        }
      }
      gather(comm, params, {.segment_bytes = 4096});
      for (const TestParam& param : params) expect_law(comm, param, what + param.spec);
    };
    const auto n = static_cast<std::size_t>(comm.size());
    for (const char* spec : kSpecs) {
      for (const std::size_t size : {std::size_t{0}, std::size_t{1}, n - 1, n, std::size_t{997}, std::size_t{60'013}}) {
        for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
          std::vector<TestParam> params;
          params.emplace_back(spec, size, dtype);
          params[0].fill_random(comm.rank());
          gather_and_check(std::move(params), fmt::format("{} elements of {}, ", size, name(dtype)));
        }
      }
    }
    gather_and_check(mixed_bucket(comm), "in a bucket, ");
  });
}

TEST_P(Sharded, TogetherTheyAreScatterReduce) {
  run([](Communicator& comm) {
    for (const char* spec : kSpecs) {
      std::vector<TestParam> halves;
      halves.emplace_back(spec, 30'011);
      halves.emplace_back(spec, 13);
      for (TestParam& param : halves) param.fill_random(comm.rank());
      std::vector<TestParam> whole = halves;
      scatter(comm, halves, {.segment_bytes = 8192, .seed = 3});
      gather(comm, halves, {.segment_bytes = 4096, .seed = 3});
      reduce(comm, whole, {.algorithm = "scatter_reduce", .segment_bytes = 8192, .seed = 3});
      for (std::size_t i = 0; i < halves.size(); ++i) {
        EXPECT_EQ(halves[i].tensor, whole[i].tensor) << spec;
        EXPECT_EQ(halves[i].residual, whole[i].residual) << spec;
      }
    }
  });
}

TEST_P(Sharded, EachSendsHalfOfAnAllreduce) {
  run([](Communicator& comm) {
    const auto n = static_cast<std::size_t>(comm.size());
    const Compressor compressor = make_compressor("q4");
    const std::size_t count = n * 512 * 16;
    std::vector<BucketItem> items;
    items.push_back({ParamId{0}, count, DType::f32, compressor});
    PersistentReduceScatter first(comm, items, Slot{1});
    PersistentAllGather second(comm, items, Slot{1});
    std::vector<float> values(count, 1.0F);
    const ItemBuffers buffers{{values.data(), count}, {}};
    const Buffer workspace(std::max(first.workspace_bytes(), second.workspace_bytes()));
    first.start({&buffers, 1}, workspace.bytes(), 0, StreamRef::host()).wait(patience());
    second.start({&buffers, 1}, workspace.bytes(), 0, StreamRef::host()).wait(patience());
    const std::size_t message = 32 + compressor.max_frame_size(count / n, DType::f32);
    EXPECT_EQ(first.stats().wire_bytes, (n - 1) * (message + 12));  // 12: the verdicts
    EXPECT_EQ(second.stats().wire_bytes, (n - 1) * message);
    EXPECT_EQ(first.algorithm(), "reduce_scatter");
    EXPECT_EQ(second.algorithm(), "all_gather");
  });
}

TEST_P(Sharded, NonFiniteInputIsAVerdictOnAllRanks) {
  run([](Communicator& comm) {
    for (int culprit = 0; culprit < comm.size(); ++culprit) {
      for (const std::size_t place : {0u, 12'345u, 29'999u}) {  // some in the culprit's own shard
        std::vector<TestParam> params;
        for (const std::size_t count : {100u, 30'000u, 5u}) params.emplace_back("q4", count);
        for (TestParam& param : params) param.fill_random(comm.rank());
        if (comm.rank() == culprit) store_f32(params[1].tensor.data(), DType::f32, place, std::nanf(""));
        const Outcome outcome = outcome_of([&] { scatter(comm, params, {.segment_bytes = 4096}); });
        EXPECT_EQ(outcome.code, Errc::non_finite) << outcome.message;
        EXPECT_THAT(outcome.message, HasSubstr(fmt::format("parameter 1 on rank {}", culprit)));
      }
      std::vector<TestParam> params;
      params.emplace_back("q4", 3);  // most shards are empty
      params[0].fill_random(comm.rank());
      const std::vector<Shard> shards = shard_of(bucket_of(params), comm.size(), culprit);
      if (comm.rank() == culprit && !shards.empty()) {
        store_f32(params[0].tensor.data(), DType::f32, shards[0].first, HUGE_VALF);
      }
      const Outcome outcome = outcome_of([&] { gather(comm, params); });
      EXPECT_EQ(outcome.code, shards.empty() ? Errc::ok : Errc::non_finite) << outcome.message;
    }
    std::vector<TestParam> next;
    next.emplace_back("q4", 1000);
    next[0].fill_random(comm.rank());
    scatter(comm, next);
    expect_scattered_law(comm, next[0], owned(comm, next)[0], "the operation after verdicts");
  });
}

TEST_P(Sharded, SumThatOverflowsIsAVerdict) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    std::vector<TestParam> params;
    params.emplace_back("none", 10);
    params[0].fill([](std::size_t) { return 3e38F; });
    EXPECT_EQ(outcome_of([&] { scatter(comm, params); }).code, Errc::non_finite);
  });
}

TEST_P(Sharded, RefusalIsAVerdictOnAllRanks) {
  run([](Communicator& comm) {
    for (const std::size_t count : {2u, 3000u}) {
      expect_refusals<PersistentReduceScatter>(comm, "q8", count, {.segment_bytes = 2048});
      expect_refusals<PersistentAllGather>(comm, "q8", count, {.segment_bytes = 2048});
    }
  });
}

TEST_P(Sharded, OtherAlgorithmsAreRefused) {
  run([](Communicator& comm) {
    std::vector<BucketItem> items;
    items.push_back({ParamId{0}, 100, DType::f32, make_compressor("q4"), "w"});
    const Outcome ring = outcome_of([&] { PersistentReduceScatter(comm, items, Slot{0}, {.algorithm = "ring"}); });
    EXPECT_EQ(ring.code, Errc::invalid_argument);
    EXPECT_THAT(ring.message, HasSubstr("unknown algorithm 'ring' for reduce_scatter: expected auto, reduce_scatter"));
    const Outcome other =
        outcome_of([&] { PersistentAllGather(comm, items, Slot{0}, {.algorithm = "reduce_scatter"}); });
    EXPECT_EQ(other.code, Errc::invalid_argument);
    EXPECT_EQ(outcome_of([&] { PersistentAllreduce(comm, items, Slot{0}, {.algorithm = "all_gather"}); }).code,
              Errc::invalid_argument);
  });
}

/// One entry point against another is a mismatch like any other.
TEST_P(Sharded, DifferentEntryPointsAreAMismatch) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    std::vector<BucketItem> items;
    items.push_back({ParamId{0}, 5000, DType::f32, make_compressor("q4"), "w"});
    std::vector<float> values(5000);
    Buffer workspace(1u << 20);
    const ItemBuffers buffers{{values.data(), values.size()}, {}};
    const auto run_one = [&](auto operation) {
      operation.start({&buffers, 1}, workspace.bytes(), 0, StreamRef::host()).wait(patience());
    };
    const Outcome outcome = outcome_of([&] {
      if (comm.rank() == 1) return run_one(PersistentAllGather(comm, items, Slot{0}));
      run_one(PersistentReduceScatter(comm, items, Slot{0}));
    });
    EXPECT_THAT(outcome.code, ::testing::AnyOf(Errc::rank_mismatch, Errc::aborted)) << outcome.message;
    workspace.abandon();
  });
}

TEST_P(Sharded, AllocateNothingInSteadyState) {
  run([](Communicator& comm) {
    if (is_checked(comm)) return;
    std::vector<TestParam> params;
    params.emplace_back("q4", 20'000);
    params.emplace_back("q4", 3'000, DType::f16);
    PersistentReduceScatter first(comm, bucket_of(params), Slot{1}, {.segment_bytes = 8192});
    PersistentAllGather second(comm, bucket_of(params), Slot{2}, {.segment_bytes = 8192});
    const Buffer workspace(std::max(first.workspace_bytes(), second.workspace_bytes()));
    const std::array<ItemBuffers, 2> buffers{
        {{params[0].view(), params[0].residual_view()}, {params[1].view(), params[1].residual_view()}}};
    std::uint64_t step = 0;
    expect_steady(
        [&] {
          for (TestParam& param : params) param.fill([](std::size_t i) { return static_cast<float>(i % 100); });
          first.start(buffers, workspace.bytes(), ++step, StreamRef::host()).wait(patience());
          second.start(buffers, workspace.bytes(), step, StreamRef::host()).wait(patience());
        },
        "reduce-scatter and all-gather");
  });
}

}  // namespace
}  // namespace gradwire::test
