// What the threads of the statistics' kernels do, run one after another on the host; and what a histogram of magnitudes
// tells of selections.
#include <fmt/format.h>

#include <map>
#include <numeric>

#include "compress/device/statistics_tile.hpp"
#include "compress/isa.hpp"
#include "compress/quantize.hpp"
#include "compress/vector_ops.hpp"
#include "unit/compress_support.hpp"
#include "unit/magnitude_bins.hpp"

namespace gradwire::testing {
namespace {

double lost_exactly(std::vector<float> x, std::size_t kept) {
  std::sort(x.begin(), x.end(), [](float a, float b) { return std::fabs(a) > std::fabs(b); });
  double lost = 0;
  for (std::size_t i = x.size(); i-- > std::min(kept, x.size());) lost += double{x[i]} * double{x[i]};
  return lost;
}

TEST(MagnitudeBins, HaveTheSquaresOfTheirElements) {
  for (const float value : {1.0f, -1.0f, 1.9999999f, 3.0e38f, 1.17549435e-38f, 0.1f, 1e-20f}) {
    const std::uint32_t magnitude = device::magnitude_bits(value);
    const double square = double{value} * double{value};
    const double found =
        static_cast<double>(device::binned_square(magnitude)) * device::square_unit(magnitude >> device::kBinShift);
    EXPECT_LE(found, square) << value;
    EXPECT_GE(found, square * (1 - 0x1p-30)) << value;
    EXPECT_LE(device::edge_square(magnitude >> device::kBinShift), square) << value;
    EXPECT_GT(device::edge_square((magnitude >> device::kBinShift) + 1), square) << value;
  }
  EXPECT_LT(device::binned_square(0x007f'ffff), std::uint64_t{1} << 30);
  EXPECT_LT(device::binned_square(0x7f7f'ffff), std::uint64_t{1} << 32) << "sums of 2^32 elements stay in 64 bits";
}

/// The limit that lost_in_cut() states holds whatever the values are, but for those below 2^-126; values at the edges
/// come near it.
TEST(MagnitudeBins, TellWhatSelectionsLoseWithinTheirLimit) {
  constexpr double kLimit = 0x1p-7 + 0x1p-15 + 1e-8;
  // Two values in a bin, as far apart as they can be: the estimate lies in the middle of what could be.
  const float high = std::nextafter(1.0f + 0x1p-7f, 0.0f);
  std::vector<float> halves(100, 1.0f);
  std::fill_n(halves.begin(), 50, high);
  std::vector<float> one_low(100, high);
  one_low[3] = 1;
  std::vector<float> same(1000, -0.3f);
  const std::map<std::string, std::vector<float>> all{{"normal", normal_gradients(5000, 1)},
                                                      {"mixed", mixed_gradients(5000, 2)},
                                                      {"halves", halves},
                                                      {"one low", one_low},
                                                      {"all the same", same},
                                                      {"one", {2.5f}},
                                                      {"zeros", std::vector<float>(70)}};
  double farthest = 0;
  for (const auto& [name, x] : all) {
    const std::vector<device::MagnitudeBin> bins = bins_of(x);
    for (std::size_t kept = 1; kept <= x.size(); kept += kept < 100 ? 1 : 97) {
      const double expected = lost_exactly(x, kept);
      const double off = std::fabs(lost_by_bins(bins, kept) - expected);
      ASSERT_LE(off, kLimit * expected + 1e-70) << name << ", " << kept;
      if (expected > 1e-60) farthest = std::max(farthest, off / expected);
    }
    EXPECT_EQ(lost_by_bins(bins, x.size()), 0) << name;
  }
  EXPECT_GT(farthest, 0.9 * kLimit) << "the limit is not far from what happens";
}

/// As the kernel's threads have them: each a part of the bins.
TEST(MagnitudeBins, InPartsLoseWhatTheyLoseAsOne) {
  const std::vector<device::MagnitudeBin> bins = bins_of(mixed_gradients(20'000, 3));
  for (const std::size_t kept : {1u, 20u, 4000u, 19'999u}) {
    double lost = 0;
    std::uint64_t above = 0;
    for (std::size_t end = bins.size(); end > 0; end -= device::kLossBins) {
      lost += device::lost_in_bins(bins.data(), end - 1, device::kLossBins, above, kept);
      for (std::size_t b = end - device::kLossBins; b < end; ++b) above += bins[b].count;
    }
    const double expected = lost_by_bins(bins, kept);
    EXPECT_NEAR(lost, expected, 1e-12 * expected) << kept;
  }
}

TEST(StatisticsThreads, SeeEachElementOnce) {
  for (const std::size_t count : {0u, 1u, 5u, 4096u, 4099u, 30'001u})
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      const Values x(normal_gradients(count, 4), dtype);
      device::Norms all{};
      for (std::size_t tile = 0; tile < device::norm_tiles(count); ++tile)
        for (std::size_t thread = 0; thread < device::kBlockThreads; ++thread)
          device::join(all, device::thread_norms(x.tensor(), 0.5f, tile, thread));
      double squares = 0;
      std::uint32_t most = 0;
      for (std::size_t i = 0; i < count; ++i) {
        const float value = load_f32(x.tensor().data, dtype, i) * 0.5f;
        squares += double{value} * double{value};
        most = std::max(most, device::magnitude_bits(value));
      }
      EXPECT_NEAR(all.squares, squares, 1e-12 * squares) << count;
      EXPECT_EQ(all.most_bits, most) << count;
    }
}

TEST(StatisticsThreads, LoseWhatQuantisersLose) {
  for (const std::uint32_t bucket : {32u, 96u, 512u, 4096u})
    for (const Norm norm : {Norm::linf, Norm::l2, Norm::minmax})
      for (const std::size_t count : {1u, 100u, 4999u}) {
        const std::vector<float> x = mixed_gradients(count, 6);
        const ConstTensor tensor(x.data(), count);
        const QuantizeParams params{4, bucket, norm};
        const QuantizeLayout layout{params, count};
        const std::size_t each = std::max<std::size_t>(2048 / bucket, 1);
        EXPECT_EQ(device::loss_buckets(params), each) << bucket;
        EXPECT_EQ(device::loss_groups(layout), (layout.buckets() + each - 1) / each) << bucket << ' ' << count;
        double lost = 0;
        for (std::size_t b = 0; b < layout.buckets(); ++b) {
          device::BucketNorms norms;
          float sums[QuantizeLayout::kRow] = {};
          for (std::size_t lane = 0; lane < device::kBucketLanes; ++lane)
            norms.join(device::lane_norms(layout, tensor, b, lane));
          for (std::size_t c = 0; device::needs_sums(norm) && c < QuantizeLayout::kRow; ++c)
            sums[c] = device::column_sum(layout, tensor, b, c);
          BucketScale scale;
          ASSERT_TRUE(device::find_scale(params, norms, sums, device::bucket_size(layout, b), scale));
          for (std::size_t lane = 0; lane < device::kBucketLanes; ++lane)
            lost += device::lane_loss(layout, tensor, b, lane, scale);
        }
        const std::uint32_t bits = 4;
        const double expected = quantize_errors(tensor, params, {&bits, 1}).front();
        EXPECT_NEAR(lost, expected, 1e-12 * expected) << bucket << ' ' << count;
      }
}

}  // namespace
}  // namespace gradwire::testing
