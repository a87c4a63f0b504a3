// integer_sum at rank counts where its sums take wider integers: too many for the suites that run everything. And what
// randomk's codes, which are values, have of their own.
#include "ranks/allreduce_suite.hpp"
#include "support/spawn.hpp"

namespace gradwire::test {
namespace {

struct Case {
  int ranks;
  const char* compressor;
  DType sum;
};

class ManyRanks : public ::testing::TestWithParam<Case> {};

TEST_P(ManyRanks, KeepTheLawInWiderIntegers) {
  const Case& c = GetParam();
  const Compressor compressor = make_compressor(c.compressor);
  EXPECT_EQ(compressor.integer_coder()->sum_dtype(c.ranks), c.sum);
  spawn(c.ranks, [&](Communicator& comm) {
    for (const std::size_t size : {std::size_t{0}, std::size_t{31}, std::size_t{10'007}}) {
      for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
        std::vector<TestParam> params;
        params.emplace_back(c.compressor, size, dtype);
        params[0].fill_random(comm.rank());
        reduce(comm, params, {.algorithm = "integer_sum"});
        expect_law(comm, params[0], fmt::format("{} elements of {}", size, name(dtype)));
      }
    }
  });
}

std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  return fmt::format("case_{}_ranks_{}", info.index, info.param.ranks);
}

INSTANTIATE_TEST_SUITE_P(IntegerSum, ManyRanks,
                         ::testing::Values(Case{16, "thc(4)", DType::u8}, Case{16, "thc(8,block=512)", DType::u16},
                                           Case{20, "thc(4)", DType::u16}, Case{16, "thc(1,block=32)", DType::u8}),
                         case_name);

constexpr std::size_t kElems = 10'007;
constexpr std::size_t kChosen = 97;

/// One rank's tensor and residual, summed again and again.
class Summing {
 public:
  Summing(const Communicator& comm, const std::string& spec, std::size_t count)
      : operation_(comm, {{ParamId{3}, count, DType::f32, make_compressor(spec), "w"}}, Slot{1}),
        workspace_(operation_.workspace_bytes()),
        values(count),
        residual(count) {}

  Outcome run(std::uint64_t step) {
    const ItemBuffers buffers{{values.data(), values.size()}, {residual.data(), residual.size()}};
    return outcome_of([&] { wait(operation_.start({&buffers, 1}, workspace_.bytes(), step, StreamRef::host())); });
  }
  [[nodiscard]] const PersistentAllreduce& operation() const { return operation_; }

 private:
  PersistentAllreduce operation_;
  Buffer workspace_;

 public:
  std::vector<float> values;
  std::vector<float> residual;
};

/// Small integers, never 0, of which sums are exact.
float input_of(int rank, std::size_t i) {
  return static_cast<float>(1 + (i * 7 + static_cast<std::size_t>(rank)) % 50);
}
float sum_of_inputs(int ranks, std::size_t i) {
  float sum = 0;
  for (int rank = 0; rank < ranks; ++rank) sum += input_of(rank, i);
  return sum;
}

class SumsOfRandomK : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(IntegerSum, SumsOfRandomK, ::testing::Values(1, 2, 3, 4, 7, 8));

TEST_P(SumsOfRandomK, HaveTheValuesOfKPlacesAndCostTheirBytes) {
  spawn(GetParam(), [](Communicator& comm) {
    Summing sum(comm, fmt::format("randomk(k={})", kChosen), kElems);
    EXPECT_EQ(sum.operation().algorithm(), "integer_sum");
    std::vector<std::size_t> before;
    for (std::uint64_t step = 0; step < 3; ++step) {
      for (std::size_t i = 0; i < kElems; ++i) sum.values[i] = input_of(comm.rank(), i);
      ASSERT_EQ(sum.run(step).code, Errc::ok);
      std::vector<std::size_t> places;
      for (std::size_t i = 0; i < kElems; ++i) {
        const bool chosen = sum.values[i] != 0;
        if (chosen) places.push_back(i);
        ASSERT_EQ(sum.values[i], chosen ? sum_of_inputs(comm.size(), i) : 0) << i;
        ASSERT_EQ(sum.residual[i], chosen ? 0 : input_of(comm.rank(), i)) << i;
      }
      EXPECT_EQ(places.size(), kChosen);
      EXPECT_NE(places, before) << "the places of another step";
      before = places;
      const auto n = static_cast<std::uint64_t>(comm.size());
      constexpr std::uint64_t kMessage = 32 + 16;  // an envelope, and the step
      EXPECT_EQ(sum.operation().stats().wire_bytes, (n - 1) * kMessage + 2 * (n - 1) * 4 * kChosen / n);
    }
  });
}

TEST_P(SumsOfRandomK, AreUnbiasedWhereScaled) {
  spawn(GetParam(), [](Communicator& comm) {
    constexpr std::size_t kCount = 40;
    constexpr int kSteps = 1500;
    Summing sum(comm, "randomk(k=10,scale=unbiased)", kCount);
    std::vector<double> mean(kCount);
    for (int step = 0; step < kSteps; ++step) {
      for (std::size_t i = 0; i < kCount; ++i) sum.values[i] = input_of(comm.rank(), i);
      ASSERT_EQ(sum.run(static_cast<std::uint64_t>(step)).code, Errc::ok);
      for (std::size_t i = 0; i < kCount; ++i) {
        const bool chosen = sum.values[i] != 0;  // one of four
        ASSERT_EQ(sum.values[i], chosen ? 4 * sum_of_inputs(comm.size(), i) : 0) << i;
        ASSERT_EQ(sum.residual[i], (chosen ? -3 : 1) * input_of(comm.rank(), i)) << i;
        mean[i] += static_cast<double>(sum.values[i]) / kSteps;
      }
    }
    const double stray = std::sqrt(3.0 / kSteps);  // relative, of a mean
    for (std::size_t i = 0; i < kCount; ++i) {
      const auto expected = static_cast<double>(sum_of_inputs(comm.size(), i));
      EXPECT_NEAR(mean[i], expected, 5 * stray * expected) << i;
    }
  });
}

/// Also where no rank draws the place.
TEST_P(SumsOfRandomK, AreRefusedByAllForWhatOneRankCannotSend) {
  spawn(GetParam(), [](Communicator& comm) {
    const int culprit = comm.size() - 1;
    for (const auto& [spec, bad] : {std::pair("randomk(k=2)", std::nanf("")), std::pair("randomk(k=2)", HUGE_VALF),
                                    std::pair("randomk(k=2,scale=unbiased)", 1e36F)}) {
      Summing sum(comm, spec, kElems);
      for (std::size_t place = 0; place < kElems; place += 2001) {
        std::fill(sum.values.begin(), sum.values.end(), 1.0F);
        if (comm.rank() == culprit) sum.values[place] = bad;
        const Outcome outcome = sum.run(place);
        ASSERT_EQ(outcome.code, Errc::non_finite) << outcome.message;
        EXPECT_THAT(outcome.message, ::testing::HasSubstr(fmt::format("in parameter 'w' on rank {}", culprit)));
        EXPECT_TRUE(sum.operation().in_step());
      }
      std::fill(sum.values.begin(), sum.values.end(), 1.0F);
      EXPECT_EQ(sum.run(1).code, Errc::ok);
      EXPECT_EQ(std::count(sum.values.begin(), sum.values.end(), 0.0F), static_cast<std::ptrdiff_t>(kElems - 2));
    }
  });
}

TEST(RandomK, CodesOfValuesThatAreSentAsTheyAreAddUp) {
  for (const char* spec : {"randomk(0.1)", "randomk(k=5,scale=unbiased)"}) {
    const Compressor compressor = make_compressor(spec);
    ASSERT_NE(compressor.integer_coder(), nullptr) << spec;
    EXPECT_EQ(compressor.integer_coder()->sum_dtype(1000), DType::f32);
    EXPECT_EQ(compressor.integer_coder()->ranges(1000), 0u);
    EXPECT_EQ(compressor.integer_coder()->codes(1000), compressor.sparsifier()->max_entries(1000));
  }
  for (const char* spec : {"randomk(0.1)|q4", "randomk(0.1)|f16", "randomk(0.1)|zstd", "topk(0.1)"})
    EXPECT_EQ(make_compressor(spec).integer_coder(), nullptr) << spec;
}

}  // namespace
}  // namespace gradwire::test
