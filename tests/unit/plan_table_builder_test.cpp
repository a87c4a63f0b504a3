// Tables of several measurements: means of what each sample alone gives.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <random>

#include "plan/table_builder.hpp"

#include "gradwire/error.hpp"
#include "gradwire/trace.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

const std::vector<std::string> kSpecs{"q2", "q4", "topk(0.1)|zstd", "powersgd(rank=2)"};

std::vector<float> normal(std::size_t count, unsigned seed, float scale = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> distribution(0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = distribution(engine);
  return values;
}

template <class Action>
std::string refusal(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return fmt::format("{}: {}", name(error.code()), error.what());
  }
  return "accepted";
}

double root_mean(double a, double b) { return std::sqrt((a * a + b * b) / 2); }

TEST(TableBuilder, AveragesSquaresAndBytes) {
  TableBuilder builder;
  builder.add_layer({"a", 100, {10, 10}, 1, {"q2", "powersgd(rank=1)"}});
  builder.add_layer({"b", 7, {}, 0, {"none"}});
  builder.add_layer({"zero", 100, {10, 10}, 0, {"powersgd(rank=2)"}});
  const TableLayer first{"a", 100, 1, {{"q2", 10, 3}, {"powersgd(rank=1)", 100, 1}}, {10, 10}, 5, 0, 0, {4}};
  const TableLayer second{"a", 100, 1, {{"q2", 13, 4}, {"powersgd(rank=1)", 100, 0}}, {10, 10}, 7, 0, 0, {2}};
  builder.add(0, first);
  EXPECT_FALSE(builder.measured(1));
  EXPECT_EQ(builder.table().layers.size(), 1u);
  builder.add(0, second);
  builder.add(1, {"b", 7, 0, {{"none", 64, 0}}});
  builder.add(2, {"zero", 100, 0, {{"powersgd(rank=2)", 100, 0}}, {10, 10}, 0, 0, 0, {0, 0}});
  const Table table = builder.table();
  ASSERT_EQ(table.layers.size(), 3u);
  const TableLayer& a = table.layers[0];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.count, 100u);
  EXPECT_EQ(a.reference, 1u);
  EXPECT_EQ(a.shape, (std::vector<std::size_t>{10, 10}));
  EXPECT_EQ(a.norm, root_mean(5, 7));
  ASSERT_EQ(a.singular_values.size(), 1u);
  EXPECT_EQ(a.singular_values[0], root_mean(4, 2));
  ASSERT_EQ(a.candidates.size(), 2u);
  EXPECT_EQ(a.candidates[0].spec, "q2");
  EXPECT_EQ(a.candidates[0].error, root_mean(3, 4));
  EXPECT_EQ(a.candidates[0].bytes, 12u) << "11.5";
  EXPECT_EQ(a.candidates[1].error, root_mean(1, 0));
  EXPECT_EQ(table.layers[1].candidates[0].bytes, 64u);
  EXPECT_TRUE(table.layers[1].singular_values.empty());
  EXPECT_EQ(table.layers[2].singular_values, (std::vector<double>{0, 0})) << "known to be zero";

  const auto refuse = [&](const std::function<void(TableLayer&)>& spoil) {
    TableLayer other = first;
    spoil(other);
    EXPECT_THAT(refusal([&] { builder.add(0, other); }), HasSubstr("invalid_argument: layer \"a\""));
  };
  refuse([](TableLayer& other) { other.name = "b"; });
  refuse([](TableLayer& other) { other.count = 99; });
  refuse([](TableLayer& other) { other.candidates.pop_back(); });
  refuse([](TableLayer& other) { other.shape = {20, 5}; });
  refuse([](TableLayer& other) { other.singular_values = {4, 3}; });
  refuse([](TableLayer& other) { other.singular_values.clear(); });
  EXPECT_EQ(to_json(builder.table()), to_json(table)) << "nothing of them is in it";
}

/// Ranks that measured different samples, one of a layer none.
TEST(TableBuilder, OfSeveralRanksAddUp) {
  const std::vector<float> x = normal(64 * 80, 1);
  const std::vector<float> y = normal(64 * 80, 2, 3);
  const std::vector<float> z = normal(100, 3);
  const LayerSample wx{"w", {x.data(), x.size()}, {64, 80}};
  const LayerSample wy{"w", {y.data(), y.size()}, {64, 80}};
  const LayerSample b{"b", {z.data(), z.size()}};
  const auto measure = [](const std::vector<std::pair<std::size_t, LayerSample>>& samples) {
    TableBuilder builder;
    builder.add_layer({"w", 64 * 80, {64, 80}, 1, kSpecs});
    builder.add_layer({"b", 100, {}, 1, kSpecs});
    for (const auto& [layer, sample] : samples) builder.add(layer, measure_layer(sample, kSpecs, 1));
    return builder;
  };
  const TableBuilder alone = measure({{0, wx}, {0, wy}, {1, b}});
  TableBuilder one = measure({{0, wx}, {1, b}});
  const TableBuilder other = measure({{0, wy}});
  EXPECT_FALSE(other.measured(1));
  ASSERT_EQ(one.sums().size(), other.sums().size()) << "whatever was measured";
  std::transform(one.sums().begin(), one.sums().end(), other.sums().begin(), one.sums().begin(), std::plus<>());
  EXPECT_EQ(to_json(one.table()), to_json(alone.table()));
}

class MeasureTrace : public ::testing::Test {
 protected:
  MeasureTrace()
      : path_(std::filesystem::temp_directory_path() / fmt::format("gradwire-measure-{}.trace", ::getpid())) {}
  ~MeasureTrace() override { std::filesystem::remove(path_); }

  struct Sample {
    std::uint64_t step;
    std::string name;
    std::vector<std::size_t> shape;
    unsigned seed;
    std::string reference = "q4";
    float scale = 1;
  };
  [[nodiscard]] static std::vector<float> values_of(const Sample& sample) {
    std::size_t count = 1;
    for (const std::size_t extent : sample.shape) count *= extent;
    std::vector<float> values = normal(count, sample.seed);
    for (float& value : values) value *= sample.scale;
    return values;
  }
  void write(const std::vector<Sample>& samples) const {
    TraceWriter writer(path_);
    for (const Sample& sample : samples) {
      const std::vector<float> x = values_of(sample);
      writer.sample(sample.step, {sample.name, {x.data(), x.size()}, sample.shape}, sample.reference);
      writer.table(sample.step, {{{"other", 1, 0, {{"q4", 1, 1}}}}});  // passed over
    }
  }
  [[nodiscard]] Table measure(std::string_view reference = {}, std::optional<std::uint64_t> step = {}) const {
    TraceReader reader(path_);
    return measure_trace(reader, kSpecs, reference, step);
  }

  std::string path_;
};

TEST_F(MeasureTrace, IsTheMeanOfMeasuringEachSample) {
  const std::vector<Sample> samples{{3, "w", {64, 80}, 1}, {3, "b", {64}, 2, "q2"}, {3, "zero", {64, 80}, 1, "q4", 0},
                                    {4, "w", {64, 80}, 3}, {4, "b", {64}, 4, "q2"}, {4, "zero", {64, 80}, 1, "q4", 0}};
  write(samples);
  const auto alone = [&](std::size_t i) {
    const std::vector<float> x = values_of(samples[i]);
    return measure_layer({samples[i].name, {x.data(), x.size()}, samples[i].shape}, kSpecs, 0);
  };
  const Table all = measure();
  ASSERT_EQ(all.layers.size(), 3u);
  EXPECT_EQ(all.layers[0].name, "w");
  EXPECT_EQ(all.layers[0].reference, 1u);
  EXPECT_EQ(all.layers[1].reference, 0u) << "of each layer its own";
  for (std::size_t l = 0; l < 3; ++l) {
    const TableLayer one = alone(l);
    const TableLayer other = alone(l + 3);
    EXPECT_EQ(all.layers[l].shape, samples[l].shape);
    EXPECT_DOUBLE_EQ(all.layers[l].norm, root_mean(one.norm, other.norm));
    const std::vector<double>& values = all.layers[l].singular_values;
    ASSERT_EQ(values.size(), l == 1 ? 0u : 2u) << samples[l].name;
    for (std::size_t i = 0; i < values.size(); ++i)
      EXPECT_DOUBLE_EQ(values[i], root_mean(one.singular_values.at(i), other.singular_values.at(i)));
    ASSERT_EQ(all.layers[l].candidates.size(), kSpecs.size());
    for (std::size_t c = 0; c < kSpecs.size(); ++c) {
      const Candidate& candidate = all.layers[l].candidates[c];
      EXPECT_DOUBLE_EQ(candidate.error, root_mean(one.candidates[c].error, other.candidates[c].error)) << kSpecs[c];
      EXPECT_NEAR(static_cast<double>(candidate.bytes),
                  static_cast<double>(one.candidates[c].bytes + other.candidates[c].bytes) / 2, 0.5);
    }
  }
  const Table fourth = measure({}, 4);
  EXPECT_DOUBLE_EQ(fourth.layers[0].candidates[0].error, alone(3).candidates[0].error);
  EXPECT_THAT(refusal([&] { (void)measure({}, 5); }), HasSubstr("the trace has no samples of step 5"));
}

TEST_F(MeasureTrace, ALayerOfZerosHasASpectrum) {
  write({{1, "zero", {64, 80}, 1, "q4", 0}});
  EXPECT_EQ(make_policy("spectral(ratio=4)").plan(measure()).layers[0].spec, "powersgd(rank=2)");
}

TEST_F(MeasureTrace, TheReferenceIsACandidate) {
  write({{1, "w", {64, 80}, 1, "quantize(bits=4)"}, {1, "b", {64}, 1, "q6"}});
  const Table own = measure();
  EXPECT_EQ(own.layers[0].candidates.size(), kSpecs.size()) << "q4 means the same";
  EXPECT_EQ(own.layers[0].reference, 1u);
  ASSERT_EQ(own.layers[1].candidates.size(), kSpecs.size() + 1);
  EXPECT_EQ(own.layers[1].reference, kSpecs.size());
  EXPECT_EQ(own.layers[1].candidates.back().spec, "q6");
  for (const TableLayer& layer : measure("q2").layers) EXPECT_EQ(layer.reference, 0u);
  for (const TableLayer& layer : measure("q8").layers) EXPECT_EQ(layer.candidates[layer.reference].spec, "q8");
}

TEST_F(MeasureTrace, WhatDoesNotFitIsNamed) {
  write({{1, "w", {64, 80}, 1}, {2, "w", {80, 64}, 1}});
  EXPECT_THAT(
      refusal([&] { (void)measure(); }),
      HasSubstr("invalid_argument: step 2: layer \"w\": its shape was [64, 80] (5120 elements), and now is [80"));
  write({{1, "w", {64, 80}, 1}, {2, "w", {64, 80}, 1, "q2"}});
  EXPECT_THAT(refusal([&] { (void)measure(); }), HasSubstr("step 2: layer \"w\": its reference was q4, and now is q2"));
  EXPECT_EQ(measure("q4").layers.size(), 1u);
  EXPECT_EQ(measure({}, 2).layers[0].reference, 0u);
  EXPECT_THAT(refusal([&] { (void)measure("bogus"); }), HasSubstr("bogus"));
  write({});
  EXPECT_THAT(refusal([&] { (void)measure(); }), HasSubstr("the trace has no samples"));
  const std::vector<float> x{1, std::numeric_limits<float>::quiet_NaN()};
  TraceWriter(path_).sample(9, {"w", {x.data(), x.size()}}, "q4");
  EXPECT_THAT(refusal([&] { (void)measure(); }), HasSubstr("non_finite: step 9: layer 'w'"));
}

}  // namespace
}  // namespace gradwire::testing
