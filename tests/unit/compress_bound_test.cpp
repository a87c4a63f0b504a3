// error_bound() holds, on gradients and on vectors made to break it, and unbiased compressors are.
#include <algorithm>
#include <cmath>

#include "unit/compress_specs.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

struct NamedInput {
  const char* name;
  std::vector<float> x;
};

std::vector<NamedInput> inputs(std::size_t count) {
  std::vector<NamedInput> all;
  all.push_back({"normal", normal_gradients(count, 3)});
  std::vector<float> heavy = normal_gradients(count, 4);
  for (float& v : heavy) v = v * v * v * v * v;
  all.push_back({"heavy-tailed", std::move(heavy)});
  all.push_back({"constant", std::vector<float>(count, 0.7f)});
  std::vector<float> one(count, 0.0f);
  one[count / 2] = -3.0f;
  all.push_back({"one element", std::move(one)});
  // One large element, and all others where rounding errs most: around half of each step a quantiser may have.
  for (const float step : {2.0f, 1.0f, 1.0f / 3, 1.0f / 7, 1.0f / 15, 1.0f / 127}) {
    std::vector<float> halves(count, 0.5f * step * 0.9999f);
    for (std::size_t i = 0; i < count; i += 2) halves[i] = -halves[i];
    halves[0] = 1.0f;
    all.push_back({"half steps", std::move(halves)});
  }
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

class ErrorBound : public ::testing::TestWithParam<std::string> {};

TEST_P(ErrorBound, HoldsOnRandomAndAdversarialVectors) {
  const Compressor compressor = make_compressor(GetParam());
  for (const std::size_t count : {1u, 2u, 31u, 1000u, 2048u}) {
    for (const auto& [name, x] : inputs(count)) {
      constexpr int kDraws = 40;
      double error = 0;
      std::vector<double> mean(count, 0.0);
      std::vector<std::byte> frame;
      bool random = false;
      for (int draw = 0; draw < kDraws; ++draw) {
        const RandomKey key{7, static_cast<std::uint64_t>(draw), ParamId{1}, 0};
        const Encoded encoded = encode(compressor, {x.data(), count}, key);
        error += squares(encoded.residual) / kDraws;
        random = random || (draw != 0 && encoded.frame != frame);
        frame = encoded.frame;
        for (std::size_t i = 0; i < count; ++i) mean[i] += static_cast<double>(encoded.residual[i]) / kDraws;
      }
      // The mean of 40 draws strays from the expectation: that of few elements far, that of many little.
      const double slack = !compressor.traits().unbiased ? 1 : count < 1000 ? 2 : 1.3;
      // A random contraction's errors lie between 0 and 1.
      const double bound = compressor.error_bound(count);
      const double stray = random && bound < 1 ? 3 * std::sqrt(bound * (1 - bound) / kDraws) : 0;
      EXPECT_LE(error, (bound * slack + stray + 1e-12) * squares(x))
          << compressor.spec() << " " << name << " " << count;
      if (!compressor.traits().unbiased || count < 1000) continue;
      // Unbiased: the mean error shrinks with the draws as independent errors do.
      double mean_squares = 0;
      for (const double m : mean) mean_squares += m * m;
      EXPECT_LE(mean_squares, 9 * error / kDraws + 1e-8 * squares(x)) << compressor.spec() << " " << name;
    }
  }
}

std::string spec_name(const ::testing::TestParamInfo<std::string>& info) {
  std::string text = info.param;
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return text;
}

INSTANTIATE_TEST_SUITE_P(All, ErrorBound, ::testing::ValuesIn(conformance_specs()), spec_name);

}  // namespace
}  // namespace gradwire::testing
