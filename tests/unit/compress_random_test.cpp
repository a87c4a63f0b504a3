// Quality of the counter-based random numbers. Seeds are fixed, so a statistic either passes always or never; bounds
// are five standard deviations of an ideal generator.
#include <functional>

#include "compress/random.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

constexpr std::size_t kSamples = 1 << 18;

using Draw = std::function<std::uint16_t(std::uint64_t)>;

RandomStream stream(std::uint64_t seed, std::uint64_t step, std::uint32_t param) {
  return RandomStream({seed, step, ParamId{param}, 0});
}

double centred(std::uint16_t r) { return static_cast<double>(RandomStream::unit_interval(r)) - 0.5; }

/// Sequences along every coordinate of the key.
std::vector<std::pair<std::string, Draw>> sequences() {
  return {
      {"elements", [s = stream(1, 2, 3)](std::uint64_t i) { return s.at(i); }},
      {"even elements", [s = stream(1, 2, 3)](std::uint64_t i) { return s.at(2 * i); }},
      {"far elements", [s = stream(1, 2, 3)](std::uint64_t i) { return s.at((std::uint64_t{7} << 33) + i); }},
      {"steps", [](std::uint64_t i) { return stream(1, i, 3).at(10); }},
      {"params", [](std::uint64_t i) { return stream(1, 2, static_cast<std::uint32_t>(i)).at(10); }},
      {"seeds", [](std::uint64_t i) { return stream(i, 2, 3).at(10); }},
      {"high pairs", [s = stream(1, 2, 3)](std::uint64_t i) { return s.at(i << 33); }},
  };
}

TEST(RandomNumbers, AreUniform) {
  for (const auto& [title, draw] : sequences()) {
    for (const int shift : {0, 8}) {
      std::vector<double> bins(256);
      for (std::size_t i = 0; i < kSamples; ++i) ++bins[static_cast<std::uint8_t>(draw(i) >> shift)];
      double chi_square = 0;
      const double expected = static_cast<double>(kSamples) / 256;
      for (const double bin : bins) chi_square += (bin - expected) * (bin - expected) / expected;
      EXPECT_NEAR(chi_square, 255, 5 * std::sqrt(2 * 255.0)) << title << " shift " << shift;
    }
  }
}

TEST(RandomNumbers, NeighboursAreNotCorrelated) {
  const double bound = 5 / std::sqrt(static_cast<double>(kSamples));
  for (const auto& [title, draw] : sequences()) {
    for (const std::uint64_t lag : {1u, 2u, 3u, 16u, 32u, 64u, 512u}) {
      double sum = 0;
      for (std::size_t i = 0; i < kSamples; ++i) sum += centred(draw(i)) * centred(draw(i + lag));
      EXPECT_LT(std::fabs(sum / static_cast<double>(kSamples) * 12), bound) << title << " lag " << lag;
    }
  }
}

TEST(RandomNumbers, StreamsOfNeighbouringKeysAreNotCorrelated) {
  const RandomStream base = stream(1, 2, 3);
  const double bound = 5 / std::sqrt(static_cast<double>(kSamples));
  for (const RandomStream& other :
       {stream(2, 2, 3), stream(1, 3, 3), stream(1, 2, 4), stream(1, 3, 2), stream(2, 1, 3)})
    for (const std::uint64_t lag : {0u, 1u, 2u}) {
      double sum = 0;
      std::size_t same = 0;
      for (std::size_t i = 0; i < kSamples; ++i) {
        sum += centred(base.at(i)) * centred(other.at(i + lag));
        same += base.at(i) == other.at(i + lag) ? 1 : 0;
      }
      EXPECT_LT(std::fabs(sum / static_cast<double>(kSamples) * 12), bound);
      EXPECT_NEAR(static_cast<double>(same), 4.0, 5 * 2.0);  // 2^18 pairs, equal once in 2^16
    }
}

TEST(RandomNumbers, EveryInputBitFlipsHalfOfTheOutputBits) {
  for (unsigned bit = 0; bit < 32; ++bit) {
    std::size_t flipped = 0;
    constexpr std::size_t kTrials = 4096;
    const RandomStream::Keys keys = stream(1, 2, 3).keys(0);
    for (std::uint32_t i = 0; i < kTrials; ++i) {
      const std::uint32_t pair = i * 2654435761u;
      const std::uint32_t change = RandomStream::hash(pair, keys) ^ RandomStream::hash(pair ^ (1u << bit), keys);
      flipped += static_cast<std::size_t>(std::popcount(change));
    }
    EXPECT_NEAR(static_cast<double>(flipped) / kTrials, 16, 0.5) << "bit " << bit;
  }
}

TEST(RandomNumbers, UnitIntervalIsOpenAndSymmetric) {
  EXPECT_EQ(RandomStream::unit_interval(0), 0x1p-17f);
  EXPECT_EQ(RandomStream::unit_interval(0xffff), 1.0f - 0x1p-17f);
  for (std::uint32_t r = 0; r < 0x10000; ++r)
    ASSERT_EQ(RandomStream::unit_interval(static_cast<std::uint16_t>(r)) +
                  RandomStream::unit_interval(static_cast<std::uint16_t>(0xffff - r)),
              1.0f);
}

}  // namespace
}  // namespace gradwire::testing
