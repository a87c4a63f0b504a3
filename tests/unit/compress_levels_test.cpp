// Signs, ternary codes and levels that are not equally spaced: values by definition, and the public CGX formula.
#include <fmt/format.h>

#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

constexpr std::size_t kBucket = 128;

std::vector<float> round_trip(const Compressor& compressor, const std::vector<float>& x, std::uint64_t step = 0) {
  return decode(compressor, encode(compressor, Values(x, DType::f32).tensor(), {1, step, ParamId{1}, 0}), x.size());
}

/// Of each bucket: the largest magnitude, the mean magnitude and the root of the mean square.
struct BucketFacts {
  std::size_t first;
  std::size_t size;
  double most = 0;
  double mean = 0;
  double rms = 0;
};

std::vector<BucketFacts> facts_of(const std::vector<float>& x, std::size_t bucket) {
  std::vector<BucketFacts> all;
  for (std::size_t first = 0; first < x.size(); first += bucket) {
    BucketFacts facts{first, std::min(bucket, x.size() - first)};
    for (std::size_t i = first; i < first + facts.size; ++i) {
      const auto v = static_cast<double>(std::fabs(x[i]));
      facts.most = std::max(facts.most, v);
      facts.mean += v / static_cast<double>(facts.size);
      facts.rms += v * v / static_cast<double>(facts.size);
    }
    facts.rms = std::sqrt(facts.rms);
    all.push_back(facts);
  }
  return all;
}

TEST(Sign, IsTheMeanMagnitudeWithTheSign) {
  const std::vector<float> x = normal_gradients(1000, 4);
  const std::vector<float> y = round_trip(make_compressor(fmt::format("sign({})", kBucket)), x);
  for (const BucketFacts& bucket : facts_of(x, kBucket)) {
    double error = 0;
    double squares = 0;
    for (std::size_t i = bucket.first; i < bucket.first + bucket.size; ++i) {
      ASSERT_NEAR(static_cast<double>(y[i]), x[i] < 0 ? -bucket.mean : bucket.mean, 1e-6 * bucket.mean) << i;
      error += std::pow(static_cast<double>(x[i] - y[i]), 2);
      squares += std::pow(static_cast<double>(x[i]), 2);
    }
    const auto d = static_cast<double>(bucket.size);
    EXPECT_NEAR(error, squares - bucket.mean * bucket.mean * d, 1e-5 * squares);  // (1 - delta) ||x||^2
  }
}

TEST(Sign, TakesOneBitAnElement) {
  const Compressor sign = make_compressor("sign(bucket=1024)");
  EXPECT_EQ(sign.max_frame_size(1 << 20, DType::f32), 16u + 1024 * 4 + (1u << 20) / 8);
}

TEST(Ternary, IsTwoBitsOfQuantizeWhateverThePacking) {
  for (const std::size_t count : {1u, 79u, 80u, 81u, 1000u, 4099u}) {
    const std::vector<float> x = mixed_gradients(count, 5);
    const std::vector<float> expected = round_trip(make_compressor("q2(round=stochastic)"), x);
    EXPECT_EQ(round_trip(make_compressor("ternary"), x), expected);
    EXPECT_EQ(round_trip(make_compressor("ternary(pack=trits)"), x), expected);
  }
}

TEST(Ternary, TakesEightBitsForFiveElements) {
  const Compressor ternary = make_compressor("ternary(bucket=1024,pack=trits)");
  EXPECT_EQ(ternary.max_frame_size(5 << 10, DType::f32), 16u + 32 + (1u << 10));
}

TEST(Ternary, ClipsAtMultiplesOfTheRootMeanSquare) {
  std::vector<float> x = normal_gradients(1000, 8);
  x[300] = -50.0f;
  const std::vector<float> y = round_trip(make_compressor(fmt::format("ternary({},clip=2.5)", kBucket)), x);
  for (const BucketFacts& bucket : facts_of(x, kBucket)) {
    const double s = std::min(bucket.most, 2.5 * bucket.rms);
    for (std::size_t i = bucket.first; i < bucket.first + bucket.size; ++i) {
      const auto v = static_cast<double>(y[i]);
      EXPECT_TRUE(v == 0 || std::fabs(std::fabs(v) - s) < 1e-5 * s) << i << " " << v << " " << s;
      if (std::fabs(static_cast<double>(x[i])) < s * 1.0001) continue;
      EXPECT_EQ(v < 0, x[i] < 0);
      EXPECT_NE(v, 0);
    }
  }
}

TEST(Ternary, ConstantsAreNotClippedAway) {
  const std::vector<float> x(300, -0.25f);  // their deviation from their mean is 0
  EXPECT_EQ(round_trip(make_compressor("ternary(clip=1)"), x), x);
}

struct Exponential {
  int bits;
  const char* norm;

  [[nodiscard]] Compressor compressor(const char* round) const {
    return make_compressor(
        fmt::format("quantize(levels=exponential,bits={},bucket={},norm={},round={})", bits, kBucket, norm, round));
  }
  /// Magnitudes, ascending.
  [[nodiscard]] std::vector<double> levels(const BucketFacts& bucket) const {
    const double s =
        std::string_view(norm) == "linf" ? bucket.most : bucket.rms * std::sqrt(static_cast<double>(bucket.size));
    std::vector<double> all{0};
    for (int k = (1 << (bits - 1)) - 2; k >= 0; --k) all.push_back(s * std::exp2(-k));
    return all;
  }
};

class ExponentialLevels : public ::testing::TestWithParam<Exponential> {};

TEST_P(ExponentialLevels, NearestTakesTheNearest) {
  std::vector<float> x = normal_gradients(1000, 14);
  for (std::size_t i = 0; i < x.size(); i += 3) x[i] *= std::exp2(-static_cast<float>(i % 31));
  const std::vector<float> y = round_trip(GetParam().compressor("nearest"), x);
  for (const BucketFacts& bucket : facts_of(x, kBucket)) {
    const std::vector<double> levels = GetParam().levels(bucket);
    for (std::size_t i = bucket.first; i < bucket.first + bucket.size; ++i) {
      const double v = std::fabs(static_cast<double>(x[i]));
      double least = HUGE_VAL;
      for (const double level : levels) least = std::min(least, std::fabs(level - v));
      EXPECT_NEAR(std::fabs(static_cast<double>(x[i] - y[i])), least, 1e-6 * levels.back()) << i;
    }
  }
}

TEST_P(ExponentialLevels, StochasticTakesANeighbourWithTheRightMean) {
  const std::vector<float> x = normal_gradients(256, 15);
  const Compressor compressor = GetParam().compressor("stochastic");
  constexpr int kSteps = 1000;
  std::vector<double> means(x.size());
  for (int step = 0; step < kSteps; ++step) {
    const std::vector<float> y = round_trip(compressor, x, static_cast<std::uint64_t>(step));
    for (std::size_t i = 0; i < x.size(); ++i) means[i] += static_cast<double>(y[i]) / kSteps;
  }
  for (const BucketFacts& bucket : facts_of(x, kBucket)) {
    const std::vector<double> levels = GetParam().levels(bucket);
    for (std::size_t i = bucket.first; i < bucket.first + bucket.size; ++i) {
      const auto v = static_cast<double>(x[i]);
      const auto above = std::lower_bound(levels.begin() + 1, levels.end() - 1, std::fabs(v));
      const double deviation = 0.5 * (*above - above[-1]) / std::sqrt(kSteps);
      EXPECT_NEAR(means[i], v, 5 * deviation + 1e-4 * *above) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Schemes, ExponentialLevels,
                         ::testing::Values(Exponential{2, "linf"}, Exponential{3, "linf"}, Exponential{4, "linf"},
                                           Exponential{8, "linf"}, Exponential{2, "l2"}, Exponential{3, "l2"},
                                           Exponential{4, "l2"}, Exponential{6, "l2"}),
                         [](const auto& scheme) { return fmt::format("{}_{}", scheme.param.norm, scheme.param.bits); });

/// Against cuda_compression_operations.cu of torch_cgx: level = min(floor((x - min) / unit + 0.5), 2^b - 1). CGX sends
/// halves up where we send them to even, and divides where we multiply by an inverse: the level may differ where x is
/// within rounding of the middle between two.
TEST(Minmax, GivesTheValuesOfCgx) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const std::size_t bucket : {std::size_t{64}, std::size_t{512}}) {
      const std::vector<float> x = normal_gradients(5003, static_cast<unsigned>(bits), 0.01f);
      const Compressor ours = make_compressor(fmt::format("quantize(bits={},bucket={},norm=minmax)", bits, bucket));
      const Encoded encoded = encode(ours, Values(x, DType::f32).tensor());
      const std::vector<float> y = decode(ours, encoded, x.size());
      std::size_t at_halves = 0;
      for (std::size_t first = 0; first < x.size(); first += bucket) {
        const auto end = x.begin() + static_cast<std::ptrdiff_t>(std::min(first + bucket, x.size()));
        const auto [min, max] = std::minmax_element(x.begin() + static_cast<std::ptrdiff_t>(first), end);
        const float top = static_cast<float>((1 << bits) - 1);
        const float unit = (*max - *min) / top;
        float pair[2];
        std::memcpy(pair, encoded.frame.data() + 16 + first / bucket * sizeof pair, sizeof pair);
        ASSERT_EQ(pair[0], unit);  // the pair of CGX's own frame, in its order
        ASSERT_EQ(pair[1], *min);
        for (std::size_t i = first; x.begin() + static_cast<std::ptrdiff_t>(i) != end; ++i) {
          const float place = (x[i] - *min) / unit;
          const float level = std::min(std::floor(place + 0.5f), top);
          const float cgx = *min + unit * level;
          const bool half = std::fabs(place - std::floor(place) - 0.5f) < 1e-4f;
          at_halves += half ? 1 : 0;
          EXPECT_NEAR(y[i], cgx, half ? unit * 1.0001f : 0) << i;
        }
      }
      EXPECT_LT(at_halves, x.size() / 500);
    }
  }
}

/// Refused where a sum over the bucket leaves f32, long before an element does; the message says so.
TEST(Levels, SumsBeyondF32AreRefusedAsSuch) {
  std::string message;
  const auto refuse = [&](const char* spec, float value) {
    const std::vector<float> x(512, value);
    return code_of([&] { (void)encode(make_compressor(spec), {x.data(), x.size()}); }, &message);
  };
  EXPECT_EQ(refuse("ternary(clip=2.5)", 0x1p63f), Errc::non_finite);
  EXPECT_NE(message.find("above 2^57, and the sum of their squares"), std::string::npos) << message;
  EXPECT_EQ(refuse("sign", 0x1p125f), Errc::non_finite);
  EXPECT_NE(message.find("above 2^114, and the sum of their magnitudes"), std::string::npos) << message;
  EXPECT_EQ(refuse("sign", 0x1p118f), Errc::ok);
}

}  // namespace
}  // namespace gradwire::testing
