#pragma once
#include <cstdint>
#include <vector>

#include "parameter.hpp"

namespace training {

/// inputs -> hidden, rectified -> classes. Instantiated for float, and for double so that tests can difference it.
template <class Real>
class Perceptron {
 public:
  struct Sizes {
    std::size_t inputs = 784;
    std::size_t hidden = 128;
    std::size_t classes = 10;
  };

  Perceptron(const Sizes& sizes, std::uint64_t seed);

  [[nodiscard]] std::vector<Parameter<Real>>& parameters() { return parameters_; }

  /// `images` is labels.size() x inputs. Leaves the gradient of the mean loss and returns that loss, in nats.
  double backward(const std::vector<Real>& images, const std::vector<std::uint8_t>& labels);
  /// How many of the images get their label.
  [[nodiscard]] std::size_t count_correct(const std::vector<Real>& images, const std::vector<std::uint8_t>& labels);

 private:
  Sizes sizes_;
  std::vector<Parameter<Real>> parameters_;
};

}  // namespace training
