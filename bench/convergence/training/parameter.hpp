#pragma once
#include <cstddef>
#include <random>
#include <string>
#include <vector>

namespace training {

/// A matrix (rows first) or a vector of a model, and the gradient that a backward pass leaves.
template <class Real>
struct Parameter {
  std::string name;
  std::vector<std::size_t> shape;
  std::vector<Real> values;
  std::vector<Real> gradient;

  Parameter(std::string name_, std::vector<std::size_t> shape_) : name(std::move(name_)), shape(std::move(shape_)) {
    std::size_t count = 1;
    for (const std::size_t size : shape) count *= size;
    values.assign(count, Real{0});
    gradient.assign(count, Real{0});
  }

  void fill_normal(std::mt19937_64& random, double deviation) {
    std::normal_distribution<double> normal(0, deviation);
    for (Real& value : values) value = static_cast<Real>(normal(random));
  }
};

}  // namespace training
