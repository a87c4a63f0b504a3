#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "gradwire/hook.hpp"

namespace training {

struct Options {
  std::string task = "fashion";  ///< fashion or kjv
  std::string model;             ///< fashion: perceptron; kjv: lstm or transformer
  std::string data;              ///< fashion: the directory of the data set; kjv: the file of the text
  int ranks = 4;
  bool is_skewed = false;
  std::string scheme = "dense";
  double learning_rate = 0.1;
  double momentum = 0.9;  ///< of the optimiser
  bool is_adam = false;   ///< else gradient descent
  int steps = 0;
  std::size_t hidden = 0;  ///< units of the hidden layer; transformer: its width
  std::uint64_t seed = 1;
  gradwire::PlanningOptions planning = {};

  [[nodiscard]] bool is_fashion() const { return task == "fashion"; }
};

/// Nothing: help was asked for and printed. Throws std::exception naming the bad option.
[[nodiscard]] std::optional<Options> parse_options(int argc, const char* const* argv);

[[nodiscard]] gradwire::HookOptions hook_options(const Options& options);

}  // namespace training
