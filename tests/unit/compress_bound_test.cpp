// error_bound() holds on gradients and on vectors made to break it, which come near it, and unbiased compressors are.
#include <algorithm>
#include <cmath>

#include "support/test_name.hpp"
#include "unit/compress_specs.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

struct NamedInput {
  const char* name;
  std::vector<float> x;
};

std::vector<NamedInput> inputs(std::size_t count, std::size_t block) {
  std::vector<NamedInput> all;
  all.push_back({"normal", normal_gradients(count, 3)});
  std::vector<float> heavy = normal_gradients(count, 4);
  for (float& v : heavy) v = v * v * v * v * v;
  all.push_back({"heavy-tailed", std::move(heavy)});
  all.push_back({"constant", std::vector<float>(count, 0.7f)});
  std::vector<float> one(count, 0.0f);
  one[count / 2] = -3.0f;
  all.push_back({"one element", std::move(one)});
  // One large element a block, and all others where rounding errs most: around half of each step a quantiser may have.
  for (const float step : {2.0f, 1.0f, 1.0f / 3, 1.0f / 7, 1.0f / 15, 1.0f / 127}) {
    std::vector<float> halves(count, 0.5f * step * 0.9999f);
    for (std::size_t i = 0; i < count; i += 2) halves[i] = -halves[i];
    for (std::size_t i = 0; i < count; i += std::min(block, count)) halves[i] = 1.0f;
    all.push_back({"half steps", std::move(halves)});
  }
  // Half-way between numbers of so many bits of mantissa, where all share an exponent; and just below a power of two,
  // where a power of two as a scale leaves the most to saturate.
  for (const int mantissa : {1, 2, 3, 7, 10}) {
    all.push_back(
        {"half-way", std::vector<float>(count, 1.0f + 0.9999f * std::exp2(-1.0f - static_cast<float>(mantissa)))});
  }
  all.push_back({"below a power of two", std::vector<float>(count, std::nextafter(2.0f, 0.0f))});
  all.push_back({"small", std::vector<float>(count, 0.0009f)});
  std::vector<float> signs(count);
  for (std::size_t i = 0; i < count; ++i) signs[i] = i % 2 == 0 ? 1.0f : -1.0f;
  all.push_back({"alternating signs", std::move(signs)});
  std::vector<float> geometric(count);
  for (std::size_t i = 0; i < count; ++i) geometric[i] = std::exp2(-0.05f * static_cast<float>(i % 512));
  all.push_back({"geometric", std::move(geometric)});
  return all;
}

double squares(const std::vector<float>& x) {
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(v) * static_cast<double>(v);
  return sum;
}

/// What one input shows: the mean over draws of the squared error, and that error of the mean.
struct Measured {
  static constexpr int kDraws = 40;

  Measured(const Compressor& compressor, const std::vector<float>& x) {
    std::vector<double> mean(x.size(), 0.0);
    std::vector<std::byte> frame;
    for (int draw = 0; draw < kDraws; ++draw) {
      const RandomKey key{7, static_cast<std::uint64_t>(draw), ParamId{1}, 0};
      const Encoded encoded = encode(compressor, {x.data(), x.size()}, key);
      error += squares(encoded.residual) / kDraws;
      random = random || (draw != 0 && encoded.frame != frame);
      frame = encoded.frame;
      for (std::size_t i = 0; i < x.size(); ++i) mean[i] += static_cast<double>(encoded.residual[i]) / kDraws;
    }
    for (const double m : mean) squared_mean += m * m;
  }

  double error = 0;
  double squared_mean = 0;
  bool random = false;  ///< draws differ
};

/// The part of its bound that a compressor reaches on the worst of the inputs, whatever their size: an eighth at least,
/// so that no bound is a number far out of reach. Those known to reach less, with what their proof gives away:
double least_share(const std::string& spec) {
  struct Loose {
    const char* part;
    double share;
  };
  constexpr Loose kLoose[] = {
      // It holds for levels that fit as badly as any may. Those learned of these inputs fit; with 4 bits, closely.
      {"bits=4,bucket=512,norm=linf,round=nearest,levels=learned", 0.01},
      {"q4(levels=learned)", 0.01},
      {"quantize(levels=learned,bits=3", 0.04},
      // Buckets that straddle blocks take the inner bound, for any vector; rotated ones are flat.
      {"rotate(q3(bucket=96", 0.04},
      // What is clipped it bounds by tails of 2 exp(-t^2 / 2), which those of rotated elements are well below.
      {"thc(8,block=64,p=0.001)", 0.07},
  };
  for (const auto& [part, share] : kLoose) {
    if (spec.find(part) != std::string::npos) return share;
  }
  return 1.0 / 8;
}

class ErrorBound : public ::testing::TestWithParam<std::string> {};

TEST_P(ErrorBound, HoldsAndIsReachedOnRandomAndAdversarialVectors) {
  const Compressor compressor = make_compressor(GetParam());
  for (const std::size_t count : {1u, 2u, 31u, 1000u, 2048u, 4096u, 8192u, 8193u}) {
    const double bound = compressor.error_bound(count);
    double reached = 0;
    const char* by = "";
    for (const auto& [name, x] : inputs(count, compressor.traits().block_elems)) {
      const Measured measured(compressor, x);
      const std::size_t nonzeros = count - static_cast<std::size_t>(std::count(x.begin(), x.end(), 0.0f));
      // The mean of 40 draws strays from the expectation: that of few elements far, that of many little.
      const double slack = !compressor.traits().unbiased ? 1 : nonzeros < 1000 ? 2 : 1.3;
      // A random contraction's errors lie between 0 and 1.
      const double stray = measured.random && bound < 1 ? 3 * std::sqrt(bound * (1 - bound) / Measured::kDraws) : 0;
      EXPECT_LE(measured.error, (bound * slack + stray + 1e-12) * squares(x))
          << compressor.spec() << " " << name << " " << count;
      if (measured.error > reached * squares(x)) {
        reached = measured.error / squares(x);
        by = name;
      }
      if (!compressor.traits().unbiased || count < 1000) continue;
      // Unbiased: the mean error shrinks with the draws as independent errors do.
      EXPECT_LE(measured.squared_mean, 9 * measured.error / Measured::kDraws + 1e-8 * squares(x))
          << compressor.spec() << " " << name;
    }
    if (count < 1000) continue;
    EXPECT_GE(reached, least_share(GetParam()) * bound) << compressor.spec() << " " << count << ": most by " << by;
  }
}

/// The rounding of an element that lies on a level shows where there is no other.
TEST(ErrorBound, OfOneElementHasItsRounding) {
  for (const char* spec : {"quantize(bits=3,bucket=32)", "q4", "q7(round=stochastic)"}) {
    const Compressor compressor = make_compressor(spec);
    double worst = 0;
    for (int i = 1; i < 2000; ++i) {
      const std::vector<float> x{static_cast<float>(i) / 10};
      worst = std::max(worst, squares(encode(compressor, {x.data(), 1}).residual) / squares(x));
    }
    EXPECT_GT(worst, 0) << spec;
    EXPECT_LE(worst, compressor.error_bound(1)) << spec;
  }
}

std::string spec_name(const ::testing::TestParamInfo<std::string>& info) { return as_test_name(info.param); }

INSTANTIATE_TEST_SUITE_P(All, ErrorBound, ::testing::ValuesIn(conformance_specs()), spec_name);

}  // namespace
}  // namespace gradwire::testing
