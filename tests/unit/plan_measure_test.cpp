// Tables from tensors: what one selection and one spectrum give is what encoding each candidate gives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "compress/vector_ops.hpp"

#include "gradwire/buffer.hpp"
#include "gradwire/error.hpp"
#include "gradwire/plan.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

std::vector<float> normal(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(count);
  for (float& value : values) value = distribution(engine);
  return values;
}

Candidate encoded(const std::vector<float>& x, const std::string& spec) {
  const Compressor compressor = make_compressor(spec);
  Buffer frame(compressor.max_frame_size(x.size(), DType::f32));
  std::vector<float> lost(x.size());
  const std::size_t bytes =
      compressor.encode(ConstTensor(x.data(), x.size()), frame.bytes(), {lost.data(), lost.size()}, {});
  return {spec, bytes, std::sqrt(ops::sum_squares(lost.data(), lost.size()))};
}

TEST(MeasureLayer, IsWhatEncodingGives) {
  const std::vector<std::string> specs{"none",
                                       "q2",
                                       "q4",
                                       "q8(bucket=96)",
                                       "sign",
                                       "q3",
                                       "q5(bucket=96)",
                                       "q1",
                                       "quantize(bits=4)",
                                       "q4(bucket=512)",
                                       "q4(norm=minmax)",
                                       "q1(norm=minmax)",
                                       "q6(round=stochastic)",
                                       "q2(levels=exponential)",
                                       "q2(bucket=512)",
                                       "quantize(bits=2)",
                                       "q6",
                                       "q7",
                                       "q8",
                                       "topk(0.01)",
                                       "topk(0.001)",
                                       "topk(0.1)",
                                       "topk(0.05)|q4",
                                       "topk(k=7)|f16",
                                       "topk(1)",
                                       "q4|zstd",
                                       "randomk(0.1)",
                                       "block_topk(0.05)",
                                       "topk(0.02)|zstd"};
  for (const std::size_t count : {1u, 100u, 20'011u}) {
    std::vector<float> x = normal(count, 1);
    for (std::size_t i = 0; i < count; i += 3) x[i] = std::round(4 * x[i]) / 4;  // ties, and zeros
    const TableLayer layer = measure_layer({"w", ConstTensor(x.data(), count)}, specs, 2);
    EXPECT_EQ(layer.name, "w");
    EXPECT_EQ(layer.count, count);
    EXPECT_EQ(layer.reference, 2u);
    ASSERT_EQ(layer.candidates.size(), specs.size());
    const double norm = std::sqrt(ops::sum_squares(x.data(), count));
    EXPECT_EQ(layer.norm, norm);
    EXPECT_TRUE(layer.shape.empty());
    EXPECT_TRUE(layer.singular_values.empty()) << "no rank was asked for";
    for (std::size_t c = 0; c < specs.size(); ++c) {
      const Candidate expected = encoded(x, specs[c]);
      EXPECT_EQ(layer.candidates[c].spec, specs[c]);
      EXPECT_EQ(layer.candidates[c].bytes, expected.bytes) << specs[c] << " of " << count;
      EXPECT_NEAR(layer.candidates[c].error, expected.error, 1e-6 * norm) << specs[c] << " of " << count;
    }
  }
}

/// A matrix whose singular values are known: outer products of orthogonal cosines.
TEST(MeasureLayer, RanksHaveTheErrorOfTheBestApproximation) {
  const std::size_t rows = 96;
  const std::size_t cols = 160;
  const std::vector<double> singular{10, 7, 5, 2, 1, 0.5};
  const auto cosine = [](std::size_t k, std::size_t i, std::size_t n) {
    const double pi = std::acos(-1.0);
    return std::sqrt(2.0 / static_cast<double>(n)) *
           std::cos(pi * static_cast<double>((k + 1) * (2 * i + 1)) / static_cast<double>(2 * n));
  };
  std::vector<float> x(rows * cols);
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t col = 0; col < cols; ++col) {
      double sum = 0;
      for (std::size_t k = 0; k < singular.size(); ++k)
        sum += singular[k] * cosine(k, row, rows) * cosine(k, col, cols);
      x[row * cols + col] = static_cast<float>(sum);
    }
  }
  const std::vector<std::string> specs{
      "powersgd(rank=1)",          "powersgd(rank=2)",   "powersgd(rank=4,factors=f16)",
      "powersgd(rank=2,rounds=1)", "projection(rank=3)", "powersgd(rank=60)"};
  const TableLayer layer = measure_layer({"w", ConstTensor(x.data(), x.size()), {rows, cols}}, specs, 0);
  const auto error_of = [&](std::size_t rank) {
    double squares = 0;
    for (std::size_t k = rank; k < singular.size(); ++k) squares += singular[k] * singular[k];
    return std::sqrt(squares);
  };
  EXPECT_EQ(layer.shape, (std::vector<std::size_t>{rows, cols}));
  ASSERT_EQ(layer.singular_values.size(), 4u) << "as many as the highest rank that pays";
  for (std::size_t k = 0; k < layer.singular_values.size(); ++k)
    EXPECT_NEAR(layer.singular_values[k], singular[k], 1e-4);
  const auto frame = [](const char* spec, std::size_t count) {
    return make_compressor(spec).max_frame_size(count, DType::f32);
  };
  EXPECT_NEAR(layer.candidates[0].error, error_of(1), 1e-4);
  EXPECT_NEAR(layer.candidates[1].error, error_of(2), 1e-4);
  EXPECT_NEAR(layer.candidates[2].error, error_of(4), 1e-3);
  EXPECT_NEAR(layer.candidates[4].error, error_of(3), 1e-3);
  EXPECT_EQ(layer.candidates[0].bytes, frame("none", rows) + frame("none", cols));
  EXPECT_EQ(layer.candidates[1].bytes, frame("none", 2 * rows) + frame("none", 2 * cols));
  EXPECT_EQ(layer.candidates[2].bytes, frame("f16", 4 * rows) + frame("f16", 4 * cols));
  EXPECT_EQ(layer.candidates[3].bytes, layer.candidates[1].bytes / 2) << "one factor a step";
  EXPECT_EQ(layer.candidates[4].bytes, frame("none", 3 * rows)) << "the shorter side's factor";
  const Candidate fallback = encoded(x, "q4");
  EXPECT_EQ(layer.candidates[5].bytes, fallback.bytes) << "60 columns do not pay";
  EXPECT_DOUBLE_EQ(layer.candidates[5].error, fallback.error);
}

TEST(MeasureLayer, BadSamplesAreNamed) {
  std::vector<float> x = normal(3000, 2);
  const std::vector<std::string> specs{"q4", "topk(0.1)"};
  const auto refusal = [&](const LayerSample& sample, std::span<const std::string> candidates, std::size_t reference) {
    try {
      (void)measure_layer(sample, candidates, reference);
    } catch (const Error& error) {
      return std::string(name(error.code())) + ": " + error.what();
    }
    return std::string("accepted");
  };
  const LayerSample good{"fc.weight", ConstTensor(x.data(), x.size()), {50, 60}};
  EXPECT_EQ(refusal(good, specs, 1), "accepted");
  EXPECT_THAT(refusal(good, specs, 2), HasSubstr("layer 'fc.weight': reference 2 of 2 candidates"));
  EXPECT_THAT(refusal({"w", ConstTensor(x.data(), x.size()), {50, 61}}, specs, 0),
              HasSubstr("3050 elements, not 3000"));
  EXPECT_THAT(refusal({"w", ConstTensor(x.data(), 0)}, specs, 0), HasSubstr("layer 'w'"));
  EXPECT_THAT(refusal(good, std::vector<std::string>{"q4", "huffman"}, 0), HasSubstr("huffman"));
  EXPECT_THAT(refusal(good, std::vector<std::string>{"q4", "q4"}, 0), HasSubstr("q4"));
  std::vector<float> large(x.size(), 2e38F);
  const LayerSample extreme{"fc.weight", ConstTensor(large.data(), large.size()), {50, 60}};
  EXPECT_EQ(refusal(extreme, std::vector<std::string>{"none"}, 0), "accepted");
  EXPECT_THAT(refusal(extreme, std::vector<std::string>{"powersgd(2)"}, 0),
              HasSubstr("non_finite: layer 'fc.weight': its products with factors are beyond f32"));
  large.assign(x.size(), 1e36F);
  EXPECT_EQ(refusal(extreme, std::vector<std::string>{"powersgd(2)"}, 0), "accepted");
  x[1234] = std::numeric_limits<float>::quiet_NaN();
  for (const char* spec : {"q4", "topk(0.1)", "powersgd(2)", "none"}) {
    EXPECT_THAT(refusal(good, std::vector<std::string>{spec}, 0), HasSubstr("layer 'fc.weight'")) << spec;
  }
}

}  // namespace
}  // namespace gradwire::testing
