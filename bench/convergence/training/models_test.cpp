#include <gtest/gtest.h>

#include <cmath>

#include "lstm.hpp"
#include "perceptron.hpp"

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

}  // namespace
}  // namespace training
