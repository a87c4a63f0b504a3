// What a low-rank operation takes over from one of another rank or kind.
#include <Eigen/Core>

#include "ranks/lowrank_runs.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;

class LowRankAdopt : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, LowRankAdopt, ::testing::ValuesIn(worlds()), world_name);

constexpr std::size_t kRows = 72;
constexpr std::size_t kCols = 90;

/// Six directions, the last a third as strong as the first, under noise of full rank that is as strong as all of them.
/// Kept: their sines were four fifths of the time of these tests.
const std::vector<double>& matrix() {
  static const std::vector<double> kept = [] {
    std::vector<double> values(kRows * kCols);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto row = static_cast<double>(i / kCols);
      const auto col = static_cast<double>(i % kCols);
      double sum = 0;
      for (int j = 1; j <= 6; ++j) {
        sum += std::sin(j * row * 0.37 + j) * std::cos(j * col * 0.23 + j) / (1 + 0.4 * (j - 1));
      }
      values[i] = sum + 3 * (static_cast<double>((i * 2654435761u + 7) % 4096) / 4096.0 - 0.5);
    }
    return values;
  }();
  return kept;
}

float entry(std::size_t i, int who) { return static_cast<float>(matrix().at(i) * (1 + 0.1 * who)); }

Runs matrix_runs(const Communicator& comm, const std::string& spec) {
  return {comm, {make_param(spec, {kRows, kCols})}};
}

/// Each step of the same matrix: the error of the last one.
double run_steps(const Communicator& comm, Runs& runs, std::uint64_t first, std::uint64_t end) {
  double scale = 0;
  for (int who = 0; who < comm.size(); ++who) scale += 1 + 0.1 * who;
  for (std::uint64_t step = first; step < end; ++step) {
    runs.param(0).fill([&](std::size_t i) { return entry(i, comm.rank()); });
    runs.run(step);
    runs.expect_laws(fmt::format("step {}", step));
  }
  return relative_error(runs.param(0), [&](std::size_t i) { return scale * static_cast<double>(entry(i, 0)); });
}

void adopt(Runs& to, Runs& from, std::size_t i = 0) {
  to.operation().adopt_memory(i, from.operation().memory(i), make_compressor(from.param(i).spec));
}

void expect_same_memory(const Communicator& comm, Runs& runs, const std::string& what) {
  std::vector<Agreement> memories;
  for (std::size_t i = 0; i < runs.params().size(); ++i) {
    memories.push_back({fmt::format("{} {}", what, i), runs.operation().memory(i)});
  }
  EXPECT_NO_THROW(comm.agree(memories, patience())) << what;
}

/// The largest difference, relative to the largest value.
double distance(const TestParam& a, const TestParam& b) {
  double worst = 0;
  double largest = 0;
  for (std::size_t i = 0; i < a.input.size(); ++i) {
    worst = std::max(worst, static_cast<double>(std::fabs(a.result(i) - b.result(i))));
    largest = std::max(largest, static_cast<double>(std::fabs(b.result(i))));
  }
  return worst / largest;
}

constexpr const char* kSchemes[] = {
    "powersgd(rank={})",
    "powersgd(rank={},iterations=2,factors=f16)",
    "powersgd(rank={},rounds=1)",
    "powersgd(rank={},start=100)",
    "projection(rank={},refresh=4)",
    "powersgd(rank={},factors=q4)",
};

std::string spec_of(const char* scheme, int rank) { return fmt::format(fmt::runtime(scheme), rank); }

TEST_P(LowRankAdopt, OfTheSameCompressorAllOfIt) {
  run([](Communicator& comm) {
    for (const char* scheme : kSchemes) {
      Runs old = matrix_runs(comm, spec_of(scheme, 3));
      run_steps(comm, old, 0, 3);
      Runs next = matrix_runs(comm, spec_of(scheme, 3));
      adopt(next, old);
      EXPECT_EQ(next.operation().memory(0), old.operation().memory(0));
      run_steps(comm, old, 3, 4);
      run_steps(comm, next, 3, 4);
      EXPECT_EQ(next.param(0).tensor, old.param(0).tensor) << scheme;
    }
  });
}

/// Leading columns are what a run of that rank would have come to.
TEST_P(LowRankAdopt, ALowerRankGoesOnAsIfItHadBeenThatLow) {
  run([](Communicator& comm) {
    for (const char* scheme : {"powersgd(rank={})", "powersgd(rank={},rounds=1)", "projection(rank={},refresh=3)"}) {
      for (const std::uint64_t steps : {1u, 4u, 5u}) {
        Runs high = matrix_runs(comm, spec_of(scheme, 7));
        Runs low = matrix_runs(comm, spec_of(scheme, 2));
        run_steps(comm, high, 0, steps);
        run_steps(comm, low, 0, steps);
        Runs next = matrix_runs(comm, spec_of(scheme, 2));
        adopt(next, high);
        expect_same_memory(comm, next, scheme);
        run_steps(comm, low, steps, steps + 1);
        run_steps(comm, next, steps, steps + 1);
        EXPECT_EQ(next.operation().stats().wire_bytes, low.operation().stats().wire_bytes) << scheme;
        EXPECT_LT(distance(next.param(0), low.param(0)), 1e-4) << scheme << " after " << steps;
      }
    }
  });
}

/// A start that no run has used is the cold start of the other rank, too.
TEST_P(LowRankAdopt, ColdStartsAreNested) {
  run([](Communicator& comm) {
    for (const int rank : {2, 7}) {
      Runs old = matrix_runs(comm, "powersgd(rank=4,start=2)");
      run_steps(comm, old, 0, 2);
      Runs next = matrix_runs(comm, fmt::format("powersgd({})", rank));
      Runs cold = matrix_runs(comm, fmt::format("powersgd({})", rank));
      adopt(next, old);
      EXPECT_FALSE(next.operation().memory(0).empty());
      run_steps(comm, next, 2, 3);
      run_steps(comm, cold, 2, 3);
      EXPECT_LT(distance(next.param(0), cold.param(0)), 1e-4) << rank;
    }
  });
}

TEST_P(LowRankAdopt, ARunAfterAnotherRankIsBetterThanAColdOne) {
  run([](Communicator& comm) {
    for (const char* scheme :
         {"powersgd(rank={})", "powersgd(rank={},rounds=1)", "projection(rank={},iterations=1,refresh=3)"}) {
      for (const auto& [before, after] : {std::pair{4, 8}, std::pair{8, 4}}) {
        for (const std::uint64_t steps : {9u, 10u}) {  // with rounds=1: either side's turn
          Runs old = matrix_runs(comm, spec_of(scheme, before));
          run_steps(comm, old, 0, steps);
          Runs next = matrix_runs(comm, spec_of(scheme, after));
          adopt(next, old);
          const double warm = run_steps(comm, next, steps, steps + 1);
          Runs cold_run = matrix_runs(comm, spec_of(scheme, after));
          const double cold = run_steps(comm, cold_run, steps, steps + 1);
          EXPECT_LT(warm, 0.9 * cold) << scheme << " from " << before << " to " << after;
          if (comm.rank() == 0 && scheme == std::string_view("powersgd(rank={})")) {
            RecordProperty(fmt::format("from_{}_to_{}_after_{}", before, after, steps),
                           fmt::format("warm {:.2f}, cold {:.2f}", warm, cold));
          }
        }
      }
    }
  });
}

/// What was learned comes first, to the bit; what is new is at right angles to it.
TEST_P(LowRankAdopt, AHigherRankKeepsTheColumns) {
  run([](Communicator& comm) {
    Runs old = matrix_runs(comm, "powersgd(3)");
    run_steps(comm, old, 0, 4);
    Runs next = matrix_runs(comm, "powersgd(rank=5,factors=bf16)");
    adopt(next, old);
    constexpr std::size_t kHeads = sizeof(std::uint64_t) + 16;  // the part's size, and what is before the basis
    const std::string before = old.operation().memory(0).substr(kHeads);
    const std::string after = next.operation().memory(0).substr(kHeads);
    ASSERT_EQ(before.size(), 3 * kCols * sizeof(float));
    ASSERT_EQ(after.size(), 5 * kCols * sizeof(float));
    EXPECT_EQ(after.substr(0, before.size()), before);
    Eigen::MatrixXf basis(kCols, 5);
    std::memcpy(basis.data(), after.data(), after.size());
    EXPECT_LT((basis.transpose() * basis - Eigen::MatrixXf::Identity(5, 5)).norm(), 1e-5F);
  });
}

/// From each scheme to each other, for shapes that clip ranks and for 16 bits: the law, and the same on all ranks.
TEST_P(LowRankAdopt, KeepsTheLawBetweenAllSchemes) {
  run([](Communicator& comm) {
    const std::vector<Shape> shapes = {{1, 37}, {3, 5}, {16, 4, 3, 3}, {0, 5}};
    const auto made = [&](const std::string& spec) {
      std::vector<TestParam> params;
      for (const Shape& shape : shapes) {
        params.push_back(make_param(spec, shape, params.size() % 2 == 0 ? DType::f32 : DType::bf16));
      }
      return Runs(comm, std::move(params));
    };
    const auto step = [&](Runs& runs, std::uint64_t number) {
      for (unsigned i = 0; i < runs.params().size(); ++i) {
        runs.param(i).fill_random(comm.rank(), i + 100 * static_cast<unsigned>(number));
      }
      runs.run(number);
      runs.expect_laws(fmt::format("step {}", number));
    };
    std::size_t pair = 0;
    for (const char* before : kSchemes) {
      for (const char* after : kSchemes) {
        const bool down = ++pair % 2 == 0;
        Runs old = made(spec_of(before, down ? 6 : 2));
        for (std::uint64_t number = 0; number < 3; ++number) step(old, number);
        Runs next = made(spec_of(after, down ? 2 : 6));
        for (std::size_t i = 0; i < shapes.size(); ++i) adopt(next, old, i);
        expect_same_memory(comm, next, fmt::format("{} to {}", before, after));
        for (std::uint64_t number = 3; number < 5; ++number) step(next, number);
        expect_same_memory(comm, next, fmt::format("after {} to {}", before, after));
      }
    }
  });
}

/// Every scheme has a right basis, which is worth as much to another one.
TEST_P(LowRankAdopt, AnotherSchemeBeginsWithTheRightBasis) {
  run([](Communicator& comm) {
    for (const char* before : {"powersgd(4)", "powersgd(rank=4,rounds=1)", "projection(rank=4,refresh=2)"}) {
      for (const char* after : {"powersgd(6)", "powersgd(rank=6,rounds=1)", "projection(rank=6,iterations=1)"}) {
        Runs old = matrix_runs(comm, before);
        run_steps(comm, old, 0, 10);
        Runs next = matrix_runs(comm, after);
        adopt(next, old);
        const double warm = run_steps(comm, next, 10, 11);
        Runs cold = matrix_runs(comm, after);
        EXPECT_LT(warm, 0.9 * run_steps(comm, cold, 10, 11)) << before << " to " << after;
      }
    }
  });
}

/// Neighbours with another past: nothing at all, an odd number of runs, an even number.
TEST_P(LowRankAdopt, ItemsOfSeveralOperationsRunTogether) {
  run([](Communicator& comm) {
    for (const char* scheme : {"powersgd(rank={},rounds=1)", "projection(rank={},iterations=1,refresh=3)"}) {
      Runs odd = matrix_runs(comm, spec_of(scheme, 4));
      Runs even = matrix_runs(comm, spec_of(scheme, 6));
      run_steps(comm, odd, 0, 3);
      run_steps(comm, even, 0, 4);
      const auto together = [&](bool with_fresh) {
        std::vector<TestParam> params(with_fresh ? 3 : 2, make_param(spec_of(scheme, 4), {kRows, kCols}));
        Runs runs(comm, std::move(params));
        runs.operation().adopt_memory(0, odd.operation().memory(0), make_compressor(odd.param(0).spec));
        runs.operation().adopt_memory(1, even.operation().memory(0), make_compressor(even.param(0).spec));
        for (TestParam& param : runs.params()) param.fill([&](std::size_t i) { return entry(i, comm.rank()); });
        runs.run(4);
        runs.expect_laws(scheme);
        expect_same_memory(comm, runs, scheme);
        return runs.params();
      };
      Runs cold = matrix_runs(comm, spec_of(scheme, 4));
      const double afresh = run_steps(comm, cold, 4, 5);
      for (const bool with_fresh : {false, true}) {
        const std::vector<TestParam> params = together(with_fresh);
        for (std::size_t i = 0; i < params.size(); ++i) {
          double scale = 0;
          for (int who = 0; who < comm.size(); ++who) scale += 1 + 0.1 * who;
          const double error =
              relative_error(params[i], [&](std::size_t k) { return scale * static_cast<double>(entry(k, 0)); });
          EXPECT_LT(error, i < 2 ? 0.95 * afresh : 0.995) << scheme << " item " << i;  // 1: of nothing
        }
      }
    }
  });
}

TEST_P(LowRankAdopt, OtherCompressorsStartAfresh) {
  run([](Communicator& comm) {
    const std::string learned = "quantize(bits=2,levels=learned,refresh=10)";
    const auto learned_memory = [&](const std::string& spec) {
      TestParam param(spec, kRows * kCols);
      param.fill_random(comm.rank());
      PersistentAllreduce operation(
          comm, {{ParamId{0}, kRows * kCols, DType::f32, make_compressor(spec), "w", {kRows, kCols}}}, Slot{4});
      const Buffer workspace(operation.workspace_bytes());
      const ItemBuffers buffers{param.view(), param.residual_view()};
      wait(operation.start({&buffers, 1}, workspace.bytes(), 0, StreamRef::host()));
      return operation.memory(0);
    };
    const std::string memory = learned_memory(learned);
    EXPECT_FALSE(memory.empty());
    Runs next = matrix_runs(comm, "powersgd(4)");
    Runs cold = matrix_runs(comm, "powersgd(4)");
    run_steps(comm, next, 0, 3);  // what it has is dropped, too
    next.operation().adopt_memory(0, memory, make_compressor(learned));
    EXPECT_TRUE(next.operation().memory(0).empty());
    run_steps(comm, next, 3, 4);
    run_steps(comm, cold, 3, 4);
    EXPECT_EQ(next.param(0).tensor, cold.param(0).tensor);

    for (const char* spec : {"quantize(bits=3,levels=learned,refresh=10)", "q4"}) {
      PersistentAllreduce other(
          comm, {{ParamId{0}, kRows * kCols, DType::f32, make_compressor(spec), "w", {kRows, kCols}}}, Slot{4});
      other.adopt_memory(0, memory, make_compressor(learned));
      other.adopt_memory(0, next.operation().memory(0), make_compressor("powersgd(4)"));
      EXPECT_TRUE(other.memory(0).empty()) << spec;
      EXPECT_EQ(outcome_of([&] { other.adopt_memory(0, "torn", make_compressor(learned)); }).code, Errc::bad_state);
    }
  });
}

TEST_P(LowRankAdopt, WhatIsNoMemoryIsRefusedAndChangesNothing) {
  run([](Communicator& comm) {
    Runs old = matrix_runs(comm, "powersgd(3)");
    run_steps(comm, old, 0, 2);
    Runs next = matrix_runs(comm, "powersgd(5)");
    run_steps(comm, next, 0, 2);
    const std::string good = old.operation().memory(0);
    const std::string kept = next.operation().memory(0);
    std::string with_nan = good;
    const float nan = std::nanf("");
    std::memcpy(with_nan.data() + with_nan.size() - sizeof nan, &nan, sizeof nan);
    const auto refused = [&](const std::string& memory, const char* from) {
      const Outcome outcome = outcome_of([&] { next.operation().adopt_memory(0, memory, make_compressor(from)); });
      EXPECT_EQ(outcome.code, Errc::bad_state) << from << " " << memory.size();
      EXPECT_THAT(outcome.message, HasSubstr("parameter 'w0'")) << from;
      EXPECT_EQ(next.operation().memory(0), kept) << from;
      return outcome.message;
    };
    EXPECT_THAT(refused(good, "powersgd(4)"), HasSubstr("no warm start of powersgd(rank=4"));
    refused(good, "powersgd(5)");
    refused(good, "powersgd(rank=3,rounds=1)");
    refused(good.substr(0, good.size() - 4), "powersgd(3)");
    refused(good + "more", "powersgd(3)");
    refused(with_nan, "powersgd(3)");
    EXPECT_EQ(outcome_of([&] { next.operation().set_memory(0, good); }).code, Errc::bad_state) << "another rank";
    EXPECT_EQ(outcome_of([&] { next.operation().adopt_memory(0, good, make_compressor("powersgd(3)")); }).code,
              Errc::ok);
  });
}

}  // namespace
}  // namespace gradwire::test
