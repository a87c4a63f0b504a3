#pragma once
#include <Eigen/Core>

#include "parameter.hpp"

namespace training {

// For the models' own sources: views that let Eigen work on their memory.

template <class Real>
using Matrix = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class Real>
using MatrixView = Eigen::Map<Matrix<Real>>;
template <class Real>
using RowView = Eigen::Map<Eigen::Matrix<Real, 1, Eigen::Dynamic>>;

inline Eigen::Index index(std::size_t value) { return static_cast<Eigen::Index>(value); }

template <class Real>
MatrixView<Real> as_matrix(const Parameter<Real>& parameter, std::vector<Real>& memory) {
  return {memory.data(), index(parameter.shape[0]), index(parameter.shape[1])};
}
template <class Real>
RowView<Real> as_row(std::vector<Real>& memory) {
  return {memory.data(), index(memory.size())};
}

/// Softmax cross-entropy in place: rows of logits become (probability - one hot) / rows. Returns the sum of losses in
/// nats.
template <class Real, class Labels>
double cross_entropy(Matrix<Real>& logits, const Labels* labels) {
  double loss = 0;
  logits.colwise() -= logits.rowwise().maxCoeff().eval();
  for (Eigen::Index row = 0; row < logits.rows(); ++row) loss -= static_cast<double>(logits(row, labels[row]));
  logits = logits.array().exp();
  const Eigen::Matrix<Real, Eigen::Dynamic, 1> sums = logits.rowwise().sum();
  loss += static_cast<double>(sums.array().log().sum());
  logits = sums.cwiseInverse().asDiagonal() * logits;
  for (Eigen::Index row = 0; row < logits.rows(); ++row) logits(row, labels[row]) -= Real{1};
  logits /= static_cast<Real>(logits.rows());
  return loss;
}

}  // namespace training
