// What rounding promises: error bounds, contraction, unbiasedness, and buckets at the edges of f32.
#include <fmt/format.h>

#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

constexpr std::size_t kBucket = 128;

struct Scheme {
  int bits;
  const char* norm;

  [[nodiscard]] Compressor compressor(const char* round = "nearest") const {
    return make_compressor(fmt::format("quantize(bits={},bucket={},norm={},round={})", bits, kBucket, norm, round));
  }
  [[nodiscard]] bool symmetric() const { return std::string_view(norm) != "minmax"; }
};

template <class Keep>
std::vector<Scheme> schemes(Keep keep) {
  std::vector<Scheme> all;
  for (const char* norm : {"linf", "l2", "minmax"})
    for (int bits = 1; bits <= 8; ++bits)
      if (keep(Scheme{bits, norm})) all.push_back({bits, norm});
  return all;
}

/// Step between neighbouring levels of the bucket that starts at `first`, from the definition of the norms.
double unit_of(const Scheme& scheme, const std::vector<float>& x, std::size_t first) {
  double largest = -HUGE_VAL, least = HUGE_VAL, magnitude = 0, squares = 0;
  for (std::size_t i = first; i < std::min(first + kBucket, x.size()); ++i) {
    const auto v = static_cast<double>(x[i]);
    largest = std::max(largest, v);
    least = std::min(least, v);
    magnitude = std::max(magnitude, std::fabs(v));
    squares += v * v;
  }
  if (!scheme.symmetric()) return (largest - least) / ((1 << scheme.bits) - 1);
  const double s = std::string_view(scheme.norm) == "linf" ? magnitude : std::sqrt(squares);
  return scheme.bits == 1 ? 2 * s : s / ((1 << (scheme.bits - 1)) - 1);
}

class Quantize : public ::testing::TestWithParam<Scheme> {};
class QuantizeToLevels : public Quantize {};    ///< not those that keep signs only
class QuantizeWithZero : public Quantize {};    ///< those with a level for 0
class QuantizeToExtremes : public Quantize {};  ///< those with a level for the largest element

TEST_P(QuantizeToLevels, NearestErrsByHalfAUnit) {
  const Scheme& scheme = GetParam();
  const std::vector<float> x = normal_gradients(1000, 4);
  const Encoded encoded = encode(scheme.compressor(), Values(x, DType::f32).tensor());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double unit = unit_of(scheme, x, i / kBucket * kBucket);
    EXPECT_LE(std::fabs(static_cast<double>(encoded.residual[i])), unit * (0.5 + 0x1p-15)) << i;
  }
}

TEST_P(QuantizeWithZero, NearestContracts) {
  const Scheme& scheme = GetParam();
  const std::vector<float> x = mixed_gradients(3000, 9);
  const Encoded encoded = encode(scheme.compressor(), Values(x, DType::f32).tensor());
  const std::vector<float> decoded = decode(scheme.compressor(), encoded, x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_LE(std::fabs(encoded.residual[i]), std::fabs(x[i])) << i;
    ASSERT_EQ(decoded[i] + encoded.residual[i], x[i]) << i;  // close enough for an exact difference
  }
}

/// Each sample errs by less than a unit with mean below 2^-17 unit, so its variance is at most unit^2 / 4.
TEST_P(Quantize, StochasticIsUnbiased) {
  const Scheme& scheme = GetParam();
  const Compressor compressor = scheme.compressor("stochastic");
  const std::vector<float> x = normal_gradients(256, 6);
  constexpr int kSteps = 1000;
  std::vector<double> sums(x.size());
  double total = 0;
  for (int step = 0; step < kSteps; ++step) {
    const Encoded encoded =
        encode(compressor, Values(x, DType::f32).tensor(), {1, static_cast<std::uint64_t>(step), ParamId{1}, 0});
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double in_units = static_cast<double>(encoded.residual[i]) / unit_of(scheme, x, i / kBucket * kBucket);
      ASSERT_LT(std::fabs(in_units), 1 + 0x1p-15);
      sums[i] += in_units;
      total += in_units;
    }
  }
  const double deviation = 0.5 / std::sqrt(kSteps);
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_LT(std::fabs(sums[i] / kSteps), 5 * deviation + 0x1p-16) << i;
  const auto samples = static_cast<double>(x.size());
  EXPECT_LT(std::fabs(total / kSteps / samples), 4 * deviation / std::sqrt(samples) + 0x1p-16);
}

TEST_P(Quantize, ZerosAndTinyBucketsAreFlat) {
  for (const float value : {0.0f, -0.0f, 0x1p-101f, -0x1p-149f}) {
    const std::vector<float> x(300, value);
    const Encoded encoded = encode(GetParam().compressor(), Values(x, DType::f32).tensor());
    const std::vector<float> decoded = decode(GetParam().compressor(), encoded, x.size());
    const float expected = GetParam().symmetric() ? 0.0f : value;
    EXPECT_EQ(decoded, std::vector<float>(x.size(), expected)) << value;
    EXPECT_EQ(encoded.residual, std::vector<float>(x.size(), value - expected)) << value;
  }
}

TEST_P(QuantizeToExtremes, ConstantsComeBack) {
  const Scheme& scheme = GetParam();
  for (const float value : {1.0f, -3.25f, 1e30f, -1e-20f, 0x1p126f}) {
    const std::vector<float> x(300, value);
    const std::vector<float> decoded =
        decode(scheme.compressor(), encode(scheme.compressor(), Values(x, DType::f32).tensor()), x.size());
    for (const float v : decoded) EXPECT_NEAR(v / value, 1.0f, 0x1p-22f) << value;
  }
}

TEST_P(Quantize, ScalesWithoutAnInverseAreRefused) {
  const Scheme& scheme = GetParam();
  std::vector<float> x(300, 1.0f);
  x[200] = 0x1.8p126f;
  std::string message;
  const Compressor compressor = scheme.compressor();
  EXPECT_EQ(code_of([&] { (void)encode(compressor, Values(x, DType::f32).tensor()); }, &message), Errc::non_finite);
  EXPECT_NE(message.find("elements 128 to 255"), std::string::npos) << message;
  const bool squared = scheme.norm == std::string_view("l2");
  EXPECT_NE(message.find(squared ? "above 2^57, and the sum of their squares" : "above 2^126"), std::string::npos)
      << message;
  x[200] = 0x1p125f;
  const Errc expected = squared ? Errc::non_finite : Errc::ok;  // its square overflows
  EXPECT_EQ(code_of([&] { (void)encode(compressor, Values(x, DType::f32).tensor()); }), expected);
}

const auto kName = [](const auto& scheme) { return fmt::format("{}_{}", scheme.param.norm, scheme.param.bits); };
const auto kAll = [](const Scheme&) { return true; };
const auto kLevels = [](const Scheme& s) { return !s.symmetric() || s.bits > 1; };
const auto kZero = [](const Scheme& s) { return s.symmetric() && s.bits > 1; };
const auto kExtremes = [](const Scheme& s) { return s.norm != std::string_view("l2"); };

INSTANTIATE_TEST_SUITE_P(Schemes, Quantize, ::testing::ValuesIn(schemes(kAll)), kName);
INSTANTIATE_TEST_SUITE_P(Schemes, QuantizeToLevels, ::testing::ValuesIn(schemes(kLevels)), kName);
INSTANTIATE_TEST_SUITE_P(Schemes, QuantizeWithZero, ::testing::ValuesIn(schemes(kZero)), kName);
INSTANTIATE_TEST_SUITE_P(Schemes, QuantizeToExtremes, ::testing::ValuesIn(schemes(kExtremes)), kName);

TEST(Cast, F16Saturates) {
  const std::vector<float> x = {65504.0f, 65519.0f, 65520.0f, 1e30f, -1e30f, 0x1.fffffep127f};
  const Compressor f16 = make_compressor("f16");
  const Encoded encoded = encode(f16, Values(x, DType::f32).tensor());
  EXPECT_EQ(decode(f16, encoded, x.size()),
            (std::vector<float>{65504.0f, 65504.0f, 65504.0f, 65504.0f, -65504.0f, 65504.0f}));
  EXPECT_EQ(encoded.residual[1], 15.0f);
  EXPECT_EQ(encoded.residual[4], 65504.0f - 1e30f);
}

}  // namespace
}  // namespace gradwire::testing
