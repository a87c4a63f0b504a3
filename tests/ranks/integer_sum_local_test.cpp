// integer_sum at rank counts where its sums take wider integers: too many for the suites that run everything.
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

}  // namespace
}  // namespace gradwire::test
