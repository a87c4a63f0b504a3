// Low rank: the law for every schedule and shape, and what the factors are worth.
#include <Eigen/SVD>

#include "ranks/lowrank_runs.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;

class LowRankSuite : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, LowRankSuite, ::testing::ValuesIn(worlds()), world_name);

constexpr const char* kSchedules[] = {
    "powersgd(rank=4)",
    "powersgd(rank=2,iterations=3)",
    "powersgd(rank=3,rounds=1)",
    "powersgd(rank=2,start=2)",
    "powersgd(rank=5,rounds=1,start=1,factors=f16)",
    "powersgd(rank=4,factors=bf16)",
    "powersgd(rank=4,factors=q8)",
    "projection(rank=4,refresh=2)",
    "projection(rank=3,refresh=3,iterations=1,factors=f16,start=1)",
};

TEST_P(LowRankSuite, KeepsTheLawForEveryScheduleAndShape) {
  run([](Communicator& comm) {
    std::size_t turn = 0;
    for (const char* spec : kSchedules) {
      for (const DType dtype : {DType::f32, ++turn % 2 == 0 ? DType::f16 : DType::bf16}) {
        std::vector<TestParam> params;
        for (const Shape& shape : {Shape{1, 37}, Shape{37, 1}, Shape{3, 5}, Shape{16, 8, 3, 3}, Shape{1, 1},
                                   Shape{130, 67}, Shape{64, 2050}, Shape{0, 5}, Shape{2, 2}}) {
          params.push_back(make_param(spec, shape, dtype));
        }
        Runs runs(comm, std::move(params));
        for (std::uint64_t step = 0; step < 5; ++step) {
          for (unsigned i = 0; i < runs.params().size(); ++i) {
            runs.param(i).fill_random(comm.rank(), i + 100 * static_cast<unsigned>(step));
          }
          runs.run(step);
          runs.expect_laws(fmt::format("step {}", step));
        }
      }
    }
  });
}

TEST_P(LowRankSuite, RanksMayDifferInOneBucket) {
  run([](Communicator& comm) {
    Runs runs(comm, {make_param("powersgd(1)", {60, 50}), make_param("powersgd(rank=8,min_ratio=1)", {40, 70}),
                     make_param("powersgd(rank=64,fallback=q8,factors=f16)", {20, 30})});
    for (unsigned i = 0; i < 3; ++i) runs.param(i).fill_random(comm.rank(), i);
    runs.run(0);
    runs.expect_laws("mixed ranks");
  });
}

TEST_P(LowRankSuite, OneShotsTakeShapesToo) {
  run([](Communicator& comm) {
    std::vector<TestParam> params{make_param("powersgd(rank=2)", {12, 4, 5}), make_param("powersgd(rank=9)", {9, 11})};
    for (TestParam& param : params) param.fill_random(comm.rank());
    reduce(comm, params);
    for (const TestParam& param : params) expect_law(comm, param, param.spec, 1.0);
  });
}

/// Entry (row, col) of a sum of `rank` outer products that differ between ranks.
float entry(std::size_t rank, std::size_t row, std::size_t col, int who) {
  double sum = 0;
  for (std::size_t k = 0; k < rank; ++k) {
    const auto j = static_cast<double>(k + 1);
    sum += std::sin(j * static_cast<double>(row) * 0.37 + static_cast<double>(who)) *
           std::cos(j * static_cast<double>(col) * 0.23 + j) / j;
  }
  return static_cast<float>(sum);
}

/// A sum of at most that rank comes out whole, from a random start and at any scale.
TEST_P(LowRankSuite, RecoversSumsOfLowRank) {
  run([](Communicator& comm) {
    for (const char* spec : {"powersgd(rank=4)", "powersgd(rank=6)", "projection(rank=4)"}) {
      for (const double scale : {1.0, 1e-20, 1e15}) {
        constexpr std::size_t kRows = 90;
        constexpr std::size_t kCols = 70;
        // All ranks share the right factors, so that the sum has rank 4, too.
        Runs runs(comm, {make_param(spec, {kRows, kCols}), make_param(spec, {kCols, kRows})});
        runs.param(0).fill(
            [&](std::size_t i) { return static_cast<float>(scale) * entry(4, i / kCols, i % kCols, comm.rank()); });
        runs.param(1).fill(
            [&](std::size_t i) { return static_cast<float>(scale) * entry(4, i % kRows, i / kRows, comm.rank()); });
        runs.run(0);
        const auto sum = [&](std::size_t row, std::size_t col) {
          double total = 0;
          for (int r = 0; r < comm.size(); ++r) total += static_cast<double>(entry(4, row, col, r));
          return total * scale;
        };
        EXPECT_LT(relative_error(runs.param(0), [&](std::size_t i) { return sum(i / kCols, i % kCols); }), 2e-5)
            << spec << " " << scale;
        EXPECT_LT(relative_error(runs.param(1), [&](std::size_t i) { return sum(i % kRows, i / kRows); }), 2e-5)
            << spec << " " << scale;
      }
    }
  });
}

/// On a matrix that stays the same, the kept basis turns towards the leading singular vectors.
TEST_P(LowRankSuite, WarmStartReachesTheBestApproximation) {
  run([](Communicator& comm) {
    constexpr std::size_t kRows = 80;
    constexpr std::size_t kCols = 60;
    const auto value = [](std::size_t i, int who) {
      const auto noise = static_cast<double>((i * 2654435761u) % 1000) / 1000.0 - 0.5;
      return entry(8, i / kCols, i % kCols, who) + static_cast<float>(0.05 * noise);
    };
    Eigen::MatrixXd sum(kRows, kCols);
    for (std::size_t i = 0; i < kRows * kCols; ++i) {
      double total = 0;
      for (int r = 0; r < comm.size(); ++r) total += static_cast<double>(value(i, r));
      sum(static_cast<Eigen::Index>(i / kCols), static_cast<Eigen::Index>(i % kCols)) = total;
    }
    const Eigen::VectorXd singular = Eigen::JacobiSVD<Eigen::MatrixXd>(sum).singularValues();
    const double best = singular.tail(singular.size() - 3).norm() / singular.norm();
    for (const char* spec : {"powersgd(rank=3)", "powersgd(rank=3,rounds=1)", "projection(rank=3,refresh=1)"}) {
      Runs runs(comm, {make_param(spec, {kRows, kCols})});
      double error = 0;
      for (std::uint64_t step = 0; step < 40; ++step) {
        runs.param(0).fill([&](std::size_t i) { return value(i, comm.rank()); });
        runs.run(step);
        error = relative_error(runs.param(0), [&](std::size_t i) {
          return sum(static_cast<Eigen::Index>(i / kCols), static_cast<Eigen::Index>(i % kCols));
        });
      }
      EXPECT_LT(error, 1.02 * best + 1e-5) << spec;
      EXPECT_GT(error, 0.999 * best - 1e-5) << spec;
    }
  });
}

/// Nothing to find, and too many columns to find it with: finite, and the law holds; later gradients are found.
TEST_P(LowRankSuite, SurvivesZerosAndDependentColumns) {
  run([](Communicator& comm) {
    for (const char* spec : kSchedules) {
      Runs runs(comm, {make_param(spec, {40, 30}), make_param(spec, {30, 40})});
      for (std::uint64_t step = 0; step < 12; ++step) {
        for (TestParam& param : runs.params()) {
          param.fill([&](std::size_t i) {
            if (step < 4) return 0.0F;
            return i / param.shape[1] % 20 < 10 || i % param.shape[1] < 10 ? 0.0F : 1.0F;  // rank 1, no first rows
          });
        }
        runs.run(step);
        runs.expect_laws(fmt::format("step {}", step));
      }
      for (const TestParam& param : runs.params()) {
        const double n = comm.size();
        EXPECT_LT(relative_error(param, [&](std::size_t i) { return n * static_cast<double>(param.input[i]); }), 0.02)
            << param.spec;
      }
    }
  });
}

TEST_P(LowRankSuite, StartsDense) {
  run([](Communicator& comm) {
    Runs runs(comm, {make_param("powersgd(rank=1,start=2)", {30, 40})});
    const auto n = static_cast<float>(comm.size());
    for (std::uint64_t step = 0; step < 3; ++step) {
      runs.param(0).fill(
          [&](std::size_t i) { return static_cast<float>(static_cast<int>(i * 7 % 31) * (comm.rank() + 1)); });
      runs.run(step);
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < 1200; ++i) {
        wrong += runs.param(0).result(i) != static_cast<float>(i * 7 % 31) * n * (n + 1) / 2 ? 1 : 0;
      }
      EXPECT_EQ(wrong == 0, step < 2) << "step " << step;
    }
  });
}

TEST_P(LowRankSuite, SeedAndStepDecideTheBits) {
  run([](Communicator& comm) {
    const auto draw = [&](std::uint64_t seed) {
      Runs runs(comm, {make_param("powersgd(rank=2)", {50, 40})}, seed);
      runs.param(0).fill_random(comm.rank());
      runs.run(0);
      return runs.param(0).tensor;
    };
    EXPECT_EQ(draw(1), draw(1));
    EXPECT_NE(draw(1), draw(2));
  });
}

TEST_P(LowRankSuite, SendsTheFactorsAlone) {
  run([](Communicator& comm) {
    const auto bytes = [&](const char* spec, std::uint64_t steps) {
      Runs runs(comm, {make_param(spec, {256, 512})});
      for (std::uint64_t step = 0; step < steps; ++step) {
        runs.param(0).fill_random(comm.rank());
        runs.run(step);
      }
      return static_cast<double>(runs.operation().stats().wire_bytes);
    };
    const double n = comm.size();
    const double whole = 2 * (n - 1) / n * 4 * (256 + 512) * 4;
    const double slack = 8 * 48 * n + 16 * n;  // envelopes and headers
    EXPECT_NEAR(bytes("powersgd(rank=4)", 1), whole, slack);
    EXPECT_NEAR(bytes("powersgd(rank=4,rounds=1)", 1), whole * 256 / 768, slack);
    EXPECT_NEAR(bytes("powersgd(rank=4,rounds=1)", 2), whole * 512 / 768, slack);
    EXPECT_NEAR(bytes("powersgd(rank=4,factors=f16)", 1), whole / 2, slack);
    EXPECT_NEAR(bytes("projection(rank=4)", 2), whole * 256 / 768, slack);
  });
}

TEST_P(LowRankSuite, NonFiniteInputIsAVerdictAndTheBasisStays) {
  run([](Communicator& comm) {
    for (const char* spec : kSchedules) {
      Runs spoilt(comm, {make_param(spec, {40, 30}), make_param(spec, {8, 9})});
      Runs clean(comm, {make_param(spec, {40, 30}), make_param(spec, {8, 9})});
      const auto run = [&](Runs& runs, std::uint64_t step, bool poison) {
        for (unsigned i = 0; i < 2; ++i) runs.param(i).fill_random(comm.rank(), i + static_cast<unsigned>(step));
        if (poison && comm.rank() == comm.size() - 1) {
          store_f32(runs.param(1).tensor.data(), DType::f32, 50, std::nanf(""));
        }
        return outcome_of([&] { runs.run(step); });
      };
      for (std::uint64_t step = 0; step < 4; ++step) {
        EXPECT_EQ(run(clean, step, false).code, Errc::ok);
        const Outcome bad = run(spoilt, step, true);
        EXPECT_EQ(bad.code, Errc::non_finite) << spec;
        EXPECT_THAT(bad.message, HasSubstr(fmt::format("'w1' on rank {}", comm.size() - 1))) << spec;
        EXPECT_EQ(run(spoilt, step, false).code, Errc::ok);
        spoilt.expect_laws("after a verdict");
        EXPECT_EQ(spoilt.param(0).tensor, clean.param(0).tensor) << spec << " step " << step;
      }
    }
  });
}

TEST_P(LowRankSuite, RefusalIsAVerdictOnAllRanks) {
  run([](Communicator& comm) {
    Runs runs(comm, {make_param("powersgd(rank=2)", {40, 30})});
    std::vector<float> values(1200, 1.0F);
    const ItemBuffers buffers{{values.data(), values.size()}, {}};
    const Buffer workspace(runs.operation().workspace_bytes());
    std::optional<Verdict> refusal;
    if (comm.rank() == 0) refusal = Verdict{Errc::invalid_argument, 0, ParamId{0}};
    const Outcome outcome = outcome_of([&] {
      runs.operation().start({&buffers, 1}, workspace.bytes(), 0, StreamRef::host(), refusal).wait(patience());
    });
    EXPECT_EQ(outcome.code, Errc::invalid_argument);
    EXPECT_THAT(outcome.message, HasSubstr("'w0' was missing on rank 0"));
    runs.param(0).fill_random(comm.rank());
    runs.run(1);
    runs.expect_laws("after a refusal");
  });
}

TEST_P(LowRankSuite, SumThatOverflowsIsAVerdict) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    Runs runs(comm, {make_param("powersgd(rank=1)", {2, 2})});
    runs.param(0).fill([](std::size_t) { return 2e38F; });
    EXPECT_EQ(outcome_of([&] { runs.run(0); }).code, Errc::non_finite);
  });
}

/// Several operations in flight, whose rounds interleave differently on each rank.
TEST_P(LowRankSuite, RoundsOfSeveralBucketsInterleave) {
  run([](Communicator& comm) {
    struct Bucket {
      explicit Bucket(const Communicator& comm, std::uint32_t i)
          : param(make_param("powersgd(rank=3)", {60 + 10 * i, 50})),
            operation(comm,
                      {{ParamId{i}, param.input.size(), DType::f32, make_compressor(param.spec), "w", param.shape}},
                      Slot{i}, {.segment_bytes = 256}),
            workspace(operation.workspace_bytes()) {}
      TestParam param;
      PersistentAllreduce operation;
      Buffer workspace;
      ItemBuffers buffers;
      Work work;
    };
    std::vector<std::unique_ptr<Bucket>> buckets;
    for (std::uint32_t i = 0; i < 4; ++i) buckets.push_back(std::make_unique<Bucket>(comm, i));
    std::minstd_rand engine(static_cast<unsigned>(comm.rank()) + 5);
    for (std::uint64_t step = 0; step < 5; ++step) {
      for (const auto& bucket : buckets) {
        bucket->param.fill_random(comm.rank(), static_cast<unsigned>(step));
        bucket->buffers = {bucket->param.view(), bucket->param.residual_view()};
        bucket->work =
            bucket->operation.start({&bucket->buffers, 1}, bucket->workspace.bytes(), step, StreamRef::host());
      }
      const Deadline deadline = patience();
      for (bool all = false; !all && std::chrono::steady_clock::now() < deadline;) {
        all = true;
        std::shuffle(buckets.begin(), buckets.end(), engine);
        for (const auto& bucket : buckets) all = bucket->work.done() && all;
        comm.transport().progress();
      }
      std::sort(buckets.begin(), buckets.end(),
                [](const auto& a, const auto& b) { return a->param.input.size() < b->param.input.size(); });
      for (const auto& bucket : buckets) expect_law(comm, bucket->param, "interleaved");
    }
  });
}

TEST_P(LowRankSuite, MisuseIsRefusedByName) {
  run([](Communicator& comm) {
    const auto build = [&](const std::string& spec, Shape shape, const std::string& algorithm = "auto") {
      std::vector<BucketItem> items;
      items.push_back({ParamId{0}, 1200, DType::f32, make_compressor(spec), "w", std::move(shape)});
      items.push_back({ParamId{1}, 1200, DType::f32, make_compressor("powersgd(4)"), "v", {30, 40}});
      return outcome_of([&] { PersistentAllreduce(comm, items, Slot{0}, {.algorithm = algorithm}); });
    };
    EXPECT_EQ(build("powersgd(rank=2)", {40, 30}).code, Errc::ok);
    const Outcome vector = build("powersgd(rank=2)", {1200});
    EXPECT_EQ(vector.code, Errc::unsupported);
    EXPECT_THAT(vector.message, HasSubstr("'w', which is no matrix"));
    EXPECT_EQ(build("powersgd(rank=2)", {}).code, Errc::unsupported);
    EXPECT_THAT(build("powersgd(rank=2)", {40, 31}).message, HasSubstr("1240 elements, not 1200"));
    const Outcome mixed = build("powersgd(rank=2,rounds=1)", {40, 30});
    EXPECT_EQ(mixed.code, Errc::unsupported);
    EXPECT_THAT(mixed.message, HasSubstr("in one bucket with"));
    EXPECT_THAT(build("q4", {40, 30}).message, HasSubstr("it carries low-rank schemes only"));
    EXPECT_THAT(build("powersgd(4)", {40, 30}, "ring").message, HasSubstr("low rank makes no frames: use lowrank"));
  });
}

}  // namespace
}  // namespace gradwire::test
