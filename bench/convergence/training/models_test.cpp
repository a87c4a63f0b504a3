#include <gtest/gtest.h>

#include <cmath>

#include "lstm.hpp"
#include "perceptron.hpp"
#include "transformer.hpp"

namespace training {
namespace {

/// Compares each entry of every gradient with a central difference of `loss`.
template <class Loss>
void expect_gradients(std::vector<Parameter<double>>& parameters, const Loss& loss) {
  constexpr double kStep = 1e-5;
  for (Parameter<double>& parameter : parameters) {
    for (std::size_t i = 0; i < parameter.values.size(); ++i) {
      const double value = parameter.values[i];
      parameter.values[i] = value + kStep;
      const double above = loss();
      parameter.values[i] = value - kStep;
      const double below = loss();
      parameter.values[i] = value;
      ASSERT_NEAR(parameter.gradient[i], (above - below) / (2 * kStep), 1e-8) << parameter.name << " " << i;
    }
  }
}

double largest_gradient(const Parameter<double>& parameter) {
  double largest = 0;
  for (const double value : parameter.gradient) largest = std::max(largest, std::abs(value));
  return largest;
}

TEST(Perceptron, GradientIsTheDifferenceOfLosses) {
  Perceptron<double> model({.inputs = 5, .hidden = 7, .classes = 3}, 1);
  std::mt19937_64 random(2);
  Parameter<double> images("images", {4, 5});
  images.fill_normal(random, 1);
  const std::vector<std::uint8_t> labels = {2, 0, 1, 2};
  model.backward(images.values, labels);
  for (const auto& parameter : model.parameters()) EXPECT_GT(largest_gradient(parameter), 1e-3) << parameter.name;
  Perceptron<double> other = model;
  expect_gradients(model.parameters(), [&] {
    for (std::size_t i = 0; i < 4; ++i) other.parameters()[i].values = model.parameters()[i].values;
    return other.backward(images.values, labels);
  });
}

TEST(Lstm, GradientIsTheDifferenceOfLosses) {
  constexpr std::size_t kStreams = 3;
  Lstm<double> model({.characters = 6, .hidden = 5}, 1);
  const std::vector<std::uint8_t> text = {0, 3, 5, 1, 2, 4, 5, 5, 0, 3, 1, 1, 4, 0, 2};
  auto begin = model.zero_state(kStreams);
  for (std::size_t i = 0; i < begin.h.size(); ++i) {
    begin.h[i] = std::sin(static_cast<double>(i));
    begin.c[i] = std::cos(static_cast<double>(3 * i));
  }
  auto state = begin;
  const double loss = model.backward(text, kStreams, state);
  for (const auto& parameter : model.parameters()) EXPECT_GT(largest_gradient(parameter), 1e-3) << parameter.name;
  auto again = begin;
  EXPECT_EQ(model.loss(text, kStreams, again), loss);
  expect_gradients(model.parameters(), [&] {
    auto moved = begin;
    return model.loss(text, kStreams, moved);
  });
}

TEST(Lstm, StateContinuesAPiece) {
  Lstm<double> model({.characters = 4, .hidden = 6}, 3);
  const std::vector<std::uint8_t> whole = {0, 1, 2, 3, 1, 0, 2};
  auto state = model.zero_state(1);
  const double together = model.loss(whole, 1, state) * 6;
  auto parts = model.zero_state(1);
  const double first = model.loss({0, 1, 2, 3}, 1, parts) * 3;
  const double second = model.loss({3, 1, 0, 2}, 1, parts) * 3;
  EXPECT_NEAR(first + second, together, 1e-12);
  EXPECT_EQ(parts.h, state.h);
  EXPECT_EQ(parts.c, state.c);
}

const std::vector<std::uint8_t> kThreePieces = {0, 3, 5, 1, 2, 4, 5, 5, 0, 3, 1, 1, 4, 0, 2};

Transformer<double> small_transformer(std::uint64_t seed) {
  Transformer<double> model({.characters = 6, .width = 6, .heads = 3, .layers = 2, .context = 5}, seed);
  std::mt19937_64 random(seed);
  for (auto& parameter : model.parameters()) {  // no bias that happens to be zero
    if (parameter.shape.size() == 1) parameter.fill_normal(random, 0.5);
  }
  return model;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

TEST(Transformer, GradientIsTheDifferenceOfLosses) {
  auto model = small_transformer(1);
  const double loss = model.backward(kThreePieces, 3);
  for (const auto& parameter : model.parameters()) EXPECT_GT(largest_gradient(parameter), 1e-3) << parameter.name;
  EXPECT_NEAR(mean(model.losses(kThreePieces, 3)), loss, 1e-12);
  expect_gradients(model.parameters(), [&] { return mean(model.losses(kThreePieces, 3)); });
}

/// A later character changes no earlier prediction, and each sees all before it: also the first of the piece.
TEST(Transformer, PredictsFromThePastAlone) {
  auto model = small_transformer(2);
  std::vector<std::uint8_t> text = {0, 3, 5, 1, 2};
  const std::vector<double> before = model.losses(text, 1);
  text[2] = 4;
  const std::vector<double> other_third = model.losses(text, 1);
  EXPECT_EQ(other_third[0], before[0]);
  EXPECT_NE(other_third[2], before[2]);
  EXPECT_NE(other_third[3], before[3]);
  text = {1, 3, 5, 1, 2};
  const std::vector<double> other_first = model.losses(text, 1);
  for (std::size_t t = 0; t < before.size(); ++t) EXPECT_NE(other_first[t], before[t]) << t;
}

TEST(Transformer, StreamsDoNotMix) {
  auto model = small_transformer(3);
  const std::vector<double> together = model.losses(kThreePieces, 3);
  for (std::size_t stream = 0; stream < 3; ++stream) {
    const auto first = kThreePieces.begin() + static_cast<std::ptrdiff_t>(5 * stream);
    const std::vector<double> alone = model.losses({first, first + 5}, 1);
    for (std::size_t t = 0; t < 4; ++t) EXPECT_NEAR(together[4 * stream + t], alone[t], 1e-12) << stream << " " << t;
  }
}

TEST(Transformer, NamesItsParameters) {
  Transformer<float> model({.characters = 60}, 1);
  std::vector<std::string> names;
  std::size_t count = 0;
  for (const auto& parameter : model.parameters()) {
    names.push_back(parameter.name);
    count += parameter.values.size();
  }
  EXPECT_EQ(names.size(), 2u + 2 * 12 + 3);
  EXPECT_EQ(names[4], "blocks.0.attn.qkv.weight");
  EXPECT_EQ(names[25], "blocks.1.mlp.down.bias");
  EXPECT_EQ(count, 60u * 128 + 64 * 128 + 2 * (12u * 128 * 128 + 13 * 128) + 256 + 128 * 60);
}

}  // namespace
}  // namespace training
