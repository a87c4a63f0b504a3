// thc: codes that are summed before they are decoded.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "compress/common_range.hpp"
#include "compress/thc_arithmetic.hpp"
#include "compress/thc_kernels.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

constexpr DType kSumTypes[] = {DType::u8, DType::u16, DType::u32};

std::vector<std::byte> run_encode(const ThcKernels& table, const std::vector<float>& y, DType dtype,
                                  std::uint32_t top) {
  std::vector<std::byte> codes(y.size() * size_of(dtype), std::byte{0x55});
  table.encode(
      {y.data(), 0.7f, top, {1, 2, ParamId{3}, (std::uint64_t{1} << 33) - 70}, {codes.data(), y.size(), dtype}});
  return codes;
}

TEST(ThcKernels, EqualTheReference) {
  for (const std::size_t size : {32u, 64u, 1024u, 8192u}) {
    const std::vector<float> y = mixed_gradients(size, 3);
    for (const DType dtype : kSumTypes)
      for (const std::uint32_t top : {1u, 3u, 15u, 127u, 255u}) {
        const std::vector<std::byte> codes = run_encode(isa::scalar_kernels<ThcKernels>(), y, dtype, top);
        std::vector<float> expected(size);
        const kernels::ThcDecode job{{codes.data(), size, dtype}, 77, 0.3f, expected.data()};
        isa::scalar_kernels<ThcKernels>().decode(job);
        for (const std::string_view isa : isa::list()) {
          EXPECT_EQ(run_encode(isa::kernels_of<ThcKernels>(isa), y, dtype, top), codes) << isa << " " << top;
          std::vector<float> v(size);
          isa::kernels_of<ThcKernels>(isa).decode({job.codes, job.offset, job.half_unit, v.data()});
          EXPECT_EQ(v, expected) << isa << " " << name(dtype);
        }
      }
  }
}

/// What only devices meet, whose encoders refuse nothing.
TEST(ThcArithmetic, KeepsNaNAndAnyCode) {
  const float nan = std::nanf("");
  EXPECT_EQ(thc::range_of(64, 16), 2.0f);
  EXPECT_TRUE(std::isfinite(thc::range_of(0x1p224, 32)));
  for (const double squares : {0x1.0001p224, static_cast<double>(HUGE_VALF), static_cast<double>(nan)})
    EXPECT_TRUE(std::isnan(thc::range_of(squares, 32))) << squares;
  const thc::Scale scale{15, 2};
  EXPECT_TRUE(std::isnan(thc::half_unit(scale, nan)));
  EXPECT_TRUE(std::isnan(thc::value_of(3, 15, thc::half_unit(scale, nan))));
  EXPECT_EQ(thc::code_of(nan, 1, 15, 0), 15u);
  EXPECT_EQ(thc::code_of(1, thc::inverse_unit(thc::half_unit(scale, nan)), 15, 0), 15u);
  EXPECT_EQ(thc::code_of(HUGE_VALF, 1, 15, 0xffff), 15u);
  EXPECT_EQ(thc::code_of(-HUGE_VALF, 1, 15, 0), 0u);
  EXPECT_EQ(thc::value_of(0xffff'ffff, 15, 1), -17.0f) << "of a rank that refused";
  EXPECT_EQ(larger_range(1, 2), 2.0f);
  EXPECT_EQ(larger_range(2, 1), 2.0f);
  EXPECT_TRUE(std::isnan(larger_range(nan, 2)) && std::isnan(larger_range(2, nan)));
}

/// One rank's part of a sum.
struct Rank {
  std::vector<float> x;
  std::vector<float> residual;
};

double squares(const std::vector<float>& x) {
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(v) * static_cast<double>(v);
  return sum;
}

/// What ranks do together: the result; residuals are left with them.
std::vector<float> sum_by_codes(const IntegerCoder& coder, std::vector<Rank>& ranks, DType input = DType::f32) {
  const std::size_t count = ranks[0].x.size();
  const int n = static_cast<int>(ranks.size());
  std::vector<float> ranges(coder.ranges(count));
  for (const Rank& rank : ranks) {
    std::vector<float> own(ranges.size());
    coder.find_ranges(Values(rank.x, input).tensor(), own.data(), StreamRef::host());
    for (std::size_t i = 0; i < own.size(); ++i) ranges[i] = std::max(ranges[i], own[i]);
  }
  const DType dtype = coder.sum_dtype(n);
  std::vector<std::uint32_t> sums(coder.codes(count));
  const RandomKey shared{5, 6, ParamId{7}, 0};
  for (int r = 0; r < n; ++r) {
    Rank& rank = ranks[static_cast<std::size_t>(r)];
    rank.residual.resize(count);
    std::vector<std::byte> codes(sums.size() * size_of(dtype));
    const CodingKeys keys{shared, {100 + static_cast<std::uint64_t>(r), 6, ParamId{7}, 0}};
    coder.encode(Values(rank.x, input).tensor(), ranges.data(), {codes.data(), sums.size(), dtype},
                 {rank.residual.data(), count}, keys, StreamRef::host());
    for (std::size_t i = 0; i < sums.size(); ++i) {
      std::uint32_t code = 0;
      std::memcpy(&code, codes.data() + i * size_of(dtype), size_of(dtype));
      sums[i] += code;
    }
  }
  std::vector<std::byte> narrow(sums.size() * size_of(dtype));
  for (std::size_t i = 0; i < sums.size(); ++i)
    std::memcpy(narrow.data() + i * size_of(dtype), &sums[i], size_of(dtype));
  std::vector<float> result(count);
  coder.decode({narrow.data(), sums.size(), dtype}, n, ranges.data(), {result.data(), count}, shared,
               StreamRef::host());
  return result;
}

std::vector<Rank> make_ranks(int n, std::size_t count) {
  std::vector<Rank> ranks;
  for (int r = 0; r < n; ++r) ranks.push_back({normal_gradients(count, static_cast<unsigned>(r) + 1), {}});
  return ranks;
}

TEST(Thc, TheSumOfInputsIsTheResultAndTheResiduals) {
  for (const char* spec : {"thc", "thc(8)", "thc(1,block=32)", "thc(3,block=256,p=0.2)"}) {
    const Compressor compressor = make_compressor(spec);
    for (const int n : {1, 2, 7, 17, 18, 300})
      for (const std::size_t count : {1u, 33u, 4096u, 5000u}) {
        if (n == 300 && count > 33) continue;
        std::vector<Rank> ranks = make_ranks(n, count);
        const std::vector<float> result = sum_by_codes(*compressor.integer_coder(), ranks);
        for (std::size_t i = 0; i < count; ++i) {
          double balance = -static_cast<double>(result[i]);
          for (const Rank& rank : ranks)
            balance += static_cast<double>(rank.x[i]) - static_cast<double>(rank.residual[i]);
          ASSERT_NEAR(balance, 0, 4e-6 * n) << spec << " " << n << " ranks, " << i << " of " << count;
        }
      }
  }
}

TEST(Thc, SixteenBitInputIsWidenedFirst) {
  std::vector<Rank> ranks = make_ranks(2, 1000);
  const Compressor thc = make_compressor("thc(block=256)");
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const std::vector<float> result = sum_by_codes(*thc.integer_coder(), ranks, dtype);
    for (std::size_t i = 0; i < result.size(); ++i) {
      const float sum = Values(ranks[0].x, dtype).get(i) + Values(ranks[1].x, dtype).get(i);
      ASSERT_NEAR(result[i] + ranks[0].residual[i] + ranks[1].residual[i], sum, 1e-5);
    }
  }
}

/// Clipping takes 2 ((1 + T^2) Q(T) - T phi(T)) of a normal distribution, rounding on average a sixth of a step
/// squared.
TEST(Thc, ErrsAsComputedWhateverTheInput) {
  const double t = 2.1539;
  const double q = 1.0 / 64;
  const double phi = std::exp(-t * t / 2) / std::sqrt(2 * M_PI);
  const double step = 2 * t / 15;
  const double expected = 2 * ((1 + t * t) * q - t * phi) + step * step / 6 * (1 - 2 * q);
  std::vector<float> heavy = normal_gradients(65536, 4);
  for (float& v : heavy) v = v * v * v;
  for (const std::vector<float>& x : {normal_gradients(65536, 3), heavy}) {
    std::vector<Rank> ranks{{x, {}}};
    (void)sum_by_codes(*make_compressor("thc").integer_coder(), ranks);
    EXPECT_NEAR(squares(ranks[0].residual) / squares(x), expected, 0.05 * expected);
  }
}

/// Rounding errors of ranks are independent: those of the mean shrink with n, down to what is clipped.
TEST(Thc, ErrorsOfRanksAverageOut) {
  const auto error_of = [](int n) {
    const std::vector<float> x = normal_gradients(16384, 3);
    std::vector<Rank> ranks(static_cast<std::size_t>(n), Rank{x, {}});
    std::vector<float> error = sum_by_codes(*make_compressor("thc(4,p=0.001)").integer_coder(), ranks);
    for (std::size_t i = 0; i < x.size(); ++i) error[i] = error[i] / static_cast<float>(n) - x[i];
    return squares(error) / squares(x);
  };
  EXPECT_NEAR(error_of(16), error_of(1) / 16, error_of(1) / 32);
}

TEST(Thc, SumsTakeTheNarrowestInteger) {
  const Compressor thc4 = make_compressor("thc(4)");
  const IntegerCoder& coder = *thc4.integer_coder();
  EXPECT_EQ(coder.sum_dtype(1), DType::u8);
  EXPECT_EQ(coder.sum_dtype(17), DType::u8);
  EXPECT_EQ(coder.sum_dtype(18), DType::u16);
  EXPECT_EQ(coder.sum_dtype(4369), DType::u16);
  EXPECT_EQ(coder.sum_dtype(4370), DType::u32);
  EXPECT_EQ(code_of([&] { (void)coder.sum_dtype(1 << 20); }), Errc::unsupported);
  EXPECT_EQ(coder.codes(4096 * 3 + 33), 4096u * 3 + 64);
  EXPECT_EQ(coder.ranges(4096 * 3 + 33), 4u);
}

TEST(Thc, ZerosAndTinyBlocksAreFlat) {
  std::vector<Rank> ranks{{std::vector<float>(100, 0x1p-120f), {}}, {std::vector<float>(100, 0.0f), {}}};
  EXPECT_EQ(sum_by_codes(*make_compressor("thc").integer_coder(), ranks), std::vector<float>(100, 0.0f));
  EXPECT_EQ(ranks[0].residual, ranks[0].x);
}

TEST(Thc, NonFiniteElementsAreRefusedByPlace) {
  const Compressor thc = make_compressor("thc(block=64)");
  for (const float bad : {std::nanf(""), HUGE_VALF, 0x1p113f}) {
    std::vector<float> x = normal_gradients(200, 3);
    x[130] = bad;
    std::vector<float> ranges(4);
    std::string message;
    EXPECT_EQ(code_of(
                  [&] {
                    thc.integer_coder()->find_ranges({x.data(), x.size()}, ranges.data(), StreamRef::host());
                  },
                  &message),
              Errc::non_finite);
    EXPECT_THAT(message, HasSubstr(std::isfinite(bad) ? "elements 128 to 191" : "element 130 of 200"));
  }
}

}  // namespace
}  // namespace gradwire::testing
