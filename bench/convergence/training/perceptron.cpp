#include "perceptron.hpp"

#include <cmath>

#include "matrix.hpp"

namespace training {
namespace {

enum Name : std::size_t { kHiddenWeight, kHiddenBias, kOutWeight, kOutBias };

template <class Real>
struct Activations {
  Matrix<Real> hidden;
  Matrix<Real> logits;
};

template <class Real>
Activations<Real> forward(std::vector<Parameter<Real>>& p, const Matrix<Real>& input) {
  Activations<Real> a;
  a.hidden.noalias() = input * as_matrix(p[kHiddenWeight], p[kHiddenWeight].values);
  a.hidden.rowwise() += as_row(p[kHiddenBias].values);
  a.hidden = a.hidden.cwiseMax(Real{0});
  a.logits.noalias() = a.hidden * as_matrix(p[kOutWeight], p[kOutWeight].values);
  a.logits.rowwise() += as_row(p[kOutBias].values);
  return a;
}

template <class Real>
Matrix<Real> as_input(const std::vector<Real>& images, std::size_t rows) {
  return Eigen::Map<const Matrix<Real>>(images.data(), index(rows), index(images.size() / rows));
}

}  // namespace

template <class Real>
Perceptron<Real>::Perceptron(const Sizes& sizes, std::uint64_t seed) : sizes_(sizes) {
  parameters_.emplace_back("hidden.weight", std::vector{sizes.inputs, sizes.hidden});
  parameters_.emplace_back("hidden.bias", std::vector{sizes.hidden});
  parameters_.emplace_back("out.weight", std::vector{sizes.hidden, sizes.classes});
  parameters_.emplace_back("out.bias", std::vector{sizes.classes});
  std::mt19937_64 random(seed);
  parameters_[kHiddenWeight].fill_normal(random, std::sqrt(2.0 / static_cast<double>(sizes.inputs)));
  parameters_[kOutWeight].fill_normal(random, std::sqrt(1.0 / static_cast<double>(sizes.hidden)));
}

template <class Real>
double Perceptron<Real>::backward(const std::vector<Real>& images, const std::vector<std::uint8_t>& labels) {
  auto& p = parameters_;
  const Matrix<Real> input = as_input(images, labels.size());
  Activations<Real> a = forward(p, input);
  const double loss = cross_entropy(a.logits, labels.data()) / static_cast<double>(labels.size());
  as_matrix(p[kOutWeight], p[kOutWeight].gradient).noalias() = a.hidden.transpose() * a.logits;
  as_row(p[kOutBias].gradient) = a.logits.colwise().sum();
  Matrix<Real> delta = a.logits * as_matrix(p[kOutWeight], p[kOutWeight].values).transpose();
  delta = (a.hidden.array() > Real{0}).select(delta, Real{0});
  as_matrix(p[kHiddenWeight], p[kHiddenWeight].gradient).noalias() = input.transpose() * delta;
  as_row(p[kHiddenBias].gradient) = delta.colwise().sum();
  return loss;
}

template <class Real>
std::size_t Perceptron<Real>::count_correct(const std::vector<Real>& images, const std::vector<std::uint8_t>& labels) {
  const Activations<Real> a = forward(parameters_, as_input(images, labels.size()));
  std::size_t correct = 0;
  for (std::size_t row = 0; row < labels.size(); ++row) {
    Eigen::Index best = 0;
    a.logits.row(index(row)).maxCoeff(&best);
    if (best == labels[row]) ++correct;
  }
  return correct;
}

template class Perceptron<float>;
template class Perceptron<double>;

}  // namespace training
