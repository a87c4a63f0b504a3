// Learned levels: what Lloyd and Max promise, what learning looks at, and for how long it is remembered.
#include <fmt/format.h>

#include "compress/learn_levels.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

Compressor learned(int bits, const char* more = "") {
  return make_compressor(fmt::format("quantize(levels=learned,bits={}{})", bits, more));
}

/// Magnitudes of the levels, 0 first.
std::vector<float> magnitudes(const Codebook& codebook, std::uint32_t bits) {
  const auto top = (std::ptrdiff_t{1} << (bits - 1)) - 1;
  return {codebook.begin() + top, codebook.begin() + 2 * top + 1};
}

double squared_error(const Compressor& compressor, const std::vector<float>& x, std::uint64_t step = 0) {
  const Encoded encoded = encode(compressor, Values(x, DType::f32).tensor(), {1, step, ParamId{1}, 0});
  double sum = 0;
  for (const float r : encoded.residual) sum += static_cast<double>(r) * static_cast<double>(r);
  return sum;
}

std::vector<float> laplace(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::exponential_distribution<float> magnitude;
  std::vector<float> x(count);
  for (float& v : x) v = (engine() % 2 == 0 ? 1.0f : -1.0f) * magnitude(engine);
  return x;
}

TEST(LearnLevels, LevelsAreTheCentroidsOfWhatIsNearestToThem) {
  const std::vector<float> x = normal_gradients(4096, 3);
  for (const std::uint32_t bits : {2u, 3u, 4u}) {
    const Codebook codebook = learn_levels({x.data(), x.size()}, {bits, 512, 4096});
    const std::vector<float> levels = magnitudes(codebook, bits);
    std::vector<double> sums(levels.size());
    std::vector<double> weights(levels.size());
    for (std::size_t first = 0; first < x.size(); first += 512) {
      float s = 0;
      for (std::size_t i = first; i < first + 512; ++i) s = std::max(s, std::fabs(x[i]));
      for (std::size_t i = first; i < first + 512; ++i) {
        const float v = std::fabs(x[i]) / s;
        std::size_t nearest = 0;
        for (std::size_t k = 1; k < levels.size(); ++k)
          if (std::fabs(v - levels[k]) < std::fabs(v - levels[nearest])) nearest = k;
        const auto weight = static_cast<double>(s * s);
        sums[nearest] += weight * static_cast<double>(v);
        weights[nearest] += weight;
      }
    }
    for (std::size_t k = 1; k < levels.size(); ++k)  // cells are made of bins, of 1/512 each
      EXPECT_NEAR(sums[k] / weights[k], static_cast<double>(levels[k]), 2.0 / 512) << bits << " " << k;
  }
}

TEST(LearnLevels, AreSymmetricAscendingAndHaveZero) {
  std::vector<std::vector<float>> inputs{{}, {0, 0, 0}, {1}, {-1, -1, -1, -1}, {std::nanf(""), 1}, {HUGE_VALF, 0}};
  inputs.push_back(normal_gradients(5000, 1));
  inputs.push_back(mixed_gradients(5000, 1));
  std::vector<float> spike(5000, 1e-6f);
  spike[100] = 1;
  inputs.push_back(spike);
  for (const std::vector<float>& x : inputs)
    for (const std::uint32_t bits : {2u, 3u, 4u}) {
      const Codebook codebook = learn_levels({x.data(), x.size()}, {bits, 512, 4096});
      const std::vector<float> levels = magnitudes(codebook, bits);
      EXPECT_EQ(levels[0], 0.0f);
      EXPECT_GE(levels.back(), 0.125f);
      EXPECT_LE(levels.back(), 1.0f);
      for (std::size_t k = 1; k < levels.size(); ++k) {
        EXPECT_GT(levels[k], levels[k - 1]);
        EXPECT_EQ(codebook[levels.size() - 1 - k], -levels[k]);
      }
      EXPECT_EQ(codebook[2 * levels.size() - 1], 0.0f);
    }
}

/// Known optima: 3 levels take a normal distribution's error to 0.190 of its variance, 7 to 0.044, 15 to 0.0107 (Max,
/// 1960). Buckets normalise by their own maxima, and so do a little worse.
TEST(Learned, ComesNearTheKnownOptimaForNormalGradients) {
  const std::vector<float> x = normal_gradients(1 << 16, 5);
  double squares = 0;
  for (const float v : x) squares += static_cast<double>(v) * static_cast<double>(v);
  const double optimum[] = {0.190, 0.044, 0.0107};
  for (const int bits : {2, 3, 4}) {
    const double error = squared_error(learned(bits), x) / squares;
    EXPECT_LT(error, 1.2 * optimum[bits - 2]) << bits;
    EXPECT_GT(error, 0.97 * optimum[bits - 2]) << bits;
  }
}

TEST(Learned, ErrsLessThanUniformAndExponentialLevels) {
  for (const std::vector<float>& x : {normal_gradients(1 << 15, 5), laplace(1 << 15, 6)})
    for (const int bits : {2, 3, 4}) {
      const double error = squared_error(learned(bits), x);
      EXPECT_LT(error, 0.8 * squared_error(make_compressor(fmt::format("q{}", bits)), x)) << bits;
      EXPECT_LT(error, 0.8 * squared_error(make_compressor(fmt::format("q{}(levels=exponential)", bits)), x)) << bits;
    }
}

TEST(Learned, NeverErrsByMoreThanTheElement) {
  for (const int bits : {2, 3, 4}) {
    const std::vector<float> x = mixed_gradients(9000, 4);
    const Encoded encoded = encode(learned(bits), Values(x, DType::f32).tensor());
    for (std::size_t i = 0; i < x.size(); ++i) ASSERT_LE(std::fabs(encoded.residual[i]), std::fabs(x[i])) << i;
  }
}

TEST(Learned, ConstantsComeBack) {
  const std::vector<float> x(2000, -0.75f);
  EXPECT_EQ(squared_error(learned(3), x), 0);
}

std::vector<std::byte> codebook_of(const Compressor& compressor, const std::vector<float>& x, const RandomKey& key) {
  const Encoded encoded = encode(compressor, Values(x, DType::f32).tensor(), key);
  return {encoded.frame.begin() + 16, encoded.frame.begin() + 16 + 32};
}

TEST(Learned, IsRememberedForRefreshStepsByPieceAndRank) {
  const Compressor compressor = learned(3, ",refresh=10");
  const std::vector<float> normal = normal_gradients(4096, 5);
  const std::vector<float> other = laplace(4096, 6);
  const RandomKey key{1, 100, ParamId{1}, 0};
  const auto at = [&](const std::vector<float>& x, std::uint64_t step, RandomKey k) {
    k.step = step;
    return codebook_of(compressor, x, k);
  };
  const auto of_normal = codebook_of(learned(3), normal, key);
  const auto of_other = codebook_of(learned(3), other, key);
  ASSERT_NE(of_normal, of_other);
  EXPECT_EQ(at(normal, 100, key), of_normal);
  EXPECT_EQ(at(other, 101, key), of_normal);
  EXPECT_EQ(at(other, 109, key), of_normal);
  EXPECT_EQ(at(other, 101, {1, 0, ParamId{2}, 0}), of_other);
  EXPECT_EQ(at(other, 101, {1, 0, ParamId{1}, 4096}), of_other);
  EXPECT_EQ(at(other, 101, {2, 0, ParamId{1}, 0}), of_other);
  EXPECT_EQ(at(other, 110, key), of_other);
  EXPECT_EQ(at(normal, 119, key), of_other);
  EXPECT_EQ(at(normal, 5, key), of_normal);                  // a run that was set back
  EXPECT_EQ(codebook_of(learned(3), other, key), of_other);  // refresh=1 remembers nothing
}

TEST(Learned, FramesOfOneAreReadByAnother) {
  const std::vector<float> x = normal_gradients(3000, 5);
  const Encoded encoded = encode(learned(4, ",refresh=5,sample=1024"), Values(x, DType::f32).tensor());
  const std::vector<float> y = decode(learned(4), encoded, x.size());
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(encoded.residual[i], x[i] - y[i]) << i;
}

}  // namespace
}  // namespace gradwire::testing
