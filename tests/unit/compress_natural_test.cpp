// natural: SIMD against the reference, values by definition, and the edges of its range.
#include <fmt/format.h>

#include <bit>

#include "compress/natural_kernels.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

/// Everything an f32 can be but NaN and Inf, and values around each end of the range.
std::vector<float> any_floats(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<float> x = mixed_gradients(count, seed);
  for (std::size_t i = 0; i < count; ++i) {
    const auto sign = static_cast<float>(engine() % 2 == 0 ? 1 : -1);
    const auto fraction = 1.0f + static_cast<float>(engine() % 4096) / 4096.0f;
    switch (engine() % 8) {
      case 0: x[i] = std::bit_cast<float>(static_cast<std::uint32_t>(engine() % 0x7f80'0000u)) * sign; break;
      case 1: x[i] = std::ldexp(fraction, -92 + static_cast<int>(engine() % 4)) * sign; break;
      case 2: x[i] = std::ldexp(fraction, 34 + static_cast<int>(engine() % 4)) * sign; break;
      default: break;
    }
  }
  return x;
}

struct Case {
  Rounding round;
  DType dtype;
  std::size_t count;
  std::size_t shift;
};

struct Result {
  std::vector<std::uint8_t> codes;
  Values residual;
  std::vector<Values> decoded;
};

Result run(const NaturalKernels& table, const Case& c, const Values& x) {
  const RandomKey key{7, 11, ParamId{13}, c.count % 2 == 0 ? (std::uint64_t{1} << 33) - 70 : 5};
  Result result{std::vector<std::uint8_t>(c.count), Values(c.count, DType::f32, c.shift), {}};
  auto* const residual = static_cast<float*>(result.residual.tensor().data);
  EXPECT_TRUE(table.encode({x.tensor(), c.round, result.codes.data(), residual, key}));
  std::vector<std::uint8_t> again(c.count);
  EXPECT_TRUE(table.encode({x.tensor(), c.round, again.data(), nullptr, key}));
  EXPECT_EQ(again, result.codes);
  if (c.dtype == DType::f32) {
    Values in_place = x;
    EXPECT_TRUE(
        table.encode({in_place.tensor(), c.round, again.data(), static_cast<float*>(in_place.tensor().data), key}));
    EXPECT_EQ(again, result.codes);
    EXPECT_EQ(in_place.bytes(), result.residual.bytes());
  }
  for (const Write write : {Write::assign, Write::add}) {
    Values y(mixed_gradients(c.count, 99), c.dtype, c.shift);
    table.decode({result.codes.data(), y.tensor(), write});
    result.decoded.push_back(y);
  }
  return result;
}

TEST(NaturalKernels, EqualTheReference) {
  for (const Rounding round : {Rounding::nearest, Rounding::stochastic})
    for (const DType dtype : kDTypes)
      for (const std::size_t count : {0u, 1u, 15u, 16u, 17u, 1023u, 1024u, 1025u, 5003u}) {
        const std::vector<float> floats = dtype == DType::f32 ? any_floats(count, 3) : mixed_gradients(count, 3);
        const Case c{round, dtype, count, count % 4};
        const Values x(floats, dtype, c.shift);
        const Result expected = run(isa::scalar_kernels<NaturalKernels>(), c, x);
        for (const std::string_view isa : isa::list()) {
          SCOPED_TRACE(fmt::format("{} {} {}", isa, name(dtype), count));
          const Result actual = run(isa::kernels_of<NaturalKernels>(isa), c, x);
          ASSERT_EQ(actual.codes, expected.codes);
          ASSERT_EQ(actual.residual.bytes(), expected.residual.bytes());
          for (std::size_t i = 0; i < 2; ++i) ASSERT_EQ(actual.decoded[i].bytes(), expected.decoded[i].bytes());
        }
      }
}

TEST(NaturalKernels, EveryByteHasAValue) {
  std::vector<std::uint8_t> codes(256);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(i);
  for (const std::string_view isa : isa::list()) {
    std::vector<float> y(codes.size());
    isa::kernels_of<NaturalKernels>(isa).decode({codes.data(), {y.data(), y.size()}, Write::assign});
    EXPECT_TRUE(std::isnan(y[128]));
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (i == 128) continue;
      const std::size_t number = i % 128;
      const float power = number == 0 ? 0 : std::ldexp(1.0f, static_cast<int>(number) - 91);
      ASSERT_EQ(y[i], i < 128 ? power : -power) << i;
    }
  }
}

std::vector<float> round_trip(const char* spec, const std::vector<float>& x, std::uint64_t step = 0) {
  const Compressor natural = make_compressor(spec);
  return decode(natural, encode(natural, Values(x, DType::f32).tensor(), {1, step, ParamId{1}, 0}), x.size());
}

TEST(Natural, NearestTakesTheNearestPower) {
  const std::vector<float> x = {1,     -1, 1.49f, 1.5f,     -1.5f,      2.99f,     3,
                                -0.7f, 0,  -0.0f, 0x1p-91f, 0x1.fp-92f, 0x1p-140f, 1e30f};
  const std::vector<float> expected = {1, -1, 1, 2, -2, 2, 4, -0.5f, 0, 0, 0x1p-90f, 0, 0, 0x1p36f};
  EXPECT_EQ(round_trip("natural(nearest)", x), expected);
}

TEST(Natural, PowersComeBack) {
  std::vector<float> x;
  for (int e = -90; e <= 36; ++e) x.insert(x.end(), {std::ldexp(1.0f, e), -std::ldexp(1.0f, e)});
  EXPECT_EQ(round_trip("natural", x), x);
  EXPECT_EQ(round_trip("natural(nearest)", x), x);
}

/// The worst element, 4/3 of a power, has variance of exactly an eighth of its square; all are unbiased, also below
/// the least power.
TEST(Natural, StochasticIsUnbiasedWithVarianceOfAnEighth) {
  const std::vector<float> x = {4.0f / 3, -4.0f / 3, 1.9f, -1.01f, 0.3f, 1e-5f, 0x1p-91f, -0x1p-93f, 1000.0f};
  constexpr int kSteps = 20'000;
  std::vector<double> mean(x.size());
  std::vector<double> variance(x.size());
  for (int step = 0; step < kSteps; ++step) {
    const std::vector<float> y = round_trip("natural", x, static_cast<std::uint64_t>(step));
    for (std::size_t i = 0; i < x.size(); ++i) {
      mean[i] += static_cast<double>(y[i]) / kSteps;
      variance[i] += std::pow(static_cast<double>(y[i] - x[i]), 2) / kSteps;
    }
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto v = static_cast<double>(x[i]);
    EXPECT_NEAR(mean[i], v, 5 * std::sqrt(variance[i] / kSteps) + 1e-4 * std::fabs(v)) << i;
    const double least_variance = std::fabs(v) * 0x1p-90;  // of those that round to 0 or the least power
    EXPECT_LE(variance[i], std::max(v * v / 8, least_variance) * 1.05) << i;
  }
  EXPECT_NEAR(variance[0], 16.0 / 9 / 8, 0.01);
}

TEST(Natural, TakesAByteAnElement) {
  EXPECT_EQ(make_compressor("natural").max_frame_size(1 << 20, DType::f32), 16u + (1u << 20));
}

}  // namespace
}  // namespace gradwire::testing
