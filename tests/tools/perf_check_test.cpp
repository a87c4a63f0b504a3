// That `gradwire perf -c 1` sees what it is there to see.
#include "tools/perf_check.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "support/spawn.hpp"
#include "tools/gaussian.hpp"

#include "gradwire/buffer.hpp"

namespace gradwire::tools {
namespace {

constexpr std::size_t kCount = 5003;

/// One rank's tensors of an allreduce that halves: result = half the sum, residual = half the input.
struct Tensors {
  std::vector<float> input = std::vector<float>(kCount);
  std::vector<float> result = std::vector<float>(kCount);
  std::vector<float> residual = std::vector<float>(kCount);
};

Tensors halving(int rank, int ranks) {
  Tensors tensors;
  std::vector<float> other(kCount);
  for (int r = 0; r < ranks; ++r) {
    fill_gaussian({other.data(), kCount}, 7, r);
    for (std::size_t i = 0; i < kCount; ++i) tensors.result[i] += other[i] / 2;
    if (r == rank) tensors.input = other;
  }
  for (std::size_t i = 0; i < kCount; ++i) tensors.residual[i] = tensors.input[i] / 2;
  return tensors;
}

/// Rank 0's verdict, after `tamper` has had its way with each rank's tensors.
CheckResult verdict(int ranks, bool lossless, const std::function<void(int rank, Tensors&)>& tamper) {
  CheckResult answer;
  test::spawn(ranks, [&](const Communicator& comm) {
    Tensors tensors = halving(comm.rank(), comm.size());
    tamper(comm.rank(), tensors);
    const CheckResult result = check(comm,
                                     {.input = {tensors.input.data(), kCount},
                                      .result = {tensors.result.data(), kCount},
                                      .residual = {tensors.residual.data(), kCount},
                                      .lossless = lossless},
                                     std::chrono::steady_clock::now() + std::chrono::seconds(60));
    if (comm.rank() == 0) answer = result;
  });
  return answer;
}

class PerfCheck : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, PerfCheck, ::testing::Values(1, 2, 3, 8));

TEST_P(PerfCheck, AcceptsWhatConserves) {
  const CheckResult result = verdict(GetParam(), false, [](int, Tensors&) {});
  EXPECT_EQ(result.wrong, 0U);
  EXPECT_NEAR(result.rel_error, 0.5, 1e-6);
}

TEST_P(PerfCheck, SeesALostResidual) {
  const int last = GetParam() - 1;
  const auto lose = [last](int rank, Tensors& t) {
    if (rank == last) t.residual[17] = 0, t.residual[kCount - 1] += 0.01F;
  };
  EXPECT_EQ(verdict(GetParam(), false, lose).wrong, 2U);
}

TEST_P(PerfCheck, SeesAWrongResult) {
  EXPECT_EQ(verdict(GetParam(), false, [](int, Tensors& t) { t.result[0] += 0.01F; }).wrong, 1U);
}

TEST_P(PerfCheck, SeesNaN) {
  EXPECT_EQ(verdict(GetParam(), false, [](int, Tensors& t) { t.result[3] = std::nanf(""); }).wrong, 1U);
}

TEST_P(PerfCheck, DoesNotLetALosslessCompressorOwe) {
  EXPECT_GT(verdict(GetParam(), true, [](int, Tensors&) {}).wrong, kCount * 99 / 100);
}

TEST_P(PerfCheck, SeesOneBitThatDiffersBetweenRanks) {
  const int last = GetParam() - 1;
  const auto flip = [last](int rank, Tensors& t) {
    if (rank == last) t.result[42] = std::nextafter(t.result[42], 1e9F);
  };
  EXPECT_EQ(verdict(GetParam(), false, flip).wrong, last == 0 ? 0U : 1U);
}

TEST(Gaussian, PrefixesAgreeAndRanksDiffer) {
  std::vector<float> longer(kCount), shorter(100), other(100);
  fill_gaussian({longer.data(), longer.size()}, 1, 0);
  fill_gaussian({shorter.data(), shorter.size()}, 1, 0);
  fill_gaussian({other.data(), other.size()}, 1, 1);
  EXPECT_EQ(std::memcmp(longer.data(), shorter.data(), 400), 0);
  EXPECT_NE(std::memcmp(other.data(), shorter.data(), 400), 0);
  double sum = 0, squares = 0;
  for (const float value : longer) sum += value, squares += value * value;
  EXPECT_NEAR(sum / kCount, 0, 0.06);
  EXPECT_NEAR(squares / kCount, 1, 0.09);
}

}  // namespace
}  // namespace gradwire::tools
