#include "lstm.hpp"

#include <algorithm>
#include <cmath>

#include "matrix.hpp"

namespace training {
namespace {

enum Name : std::size_t { kInWeight, kRecurrentWeight, kGateBias, kOutWeight, kOutBias };

}  // namespace

/// Rows t * streams + stream; those of `hidden` and `cell` begin one step earlier, with the state that came in.
template <class Real>
struct Lstm<Real>::Trace {
  Eigen::Index steps = 0;
  Matrix<Real> hidden;
  Matrix<Real> cell;
  Matrix<Real> tanh_cell;
  Matrix<Real> gates;   // after their sigm or tanh
  Matrix<Real> logits;  // after cross_entropy(): their gradient
};

template <class Real>
Lstm<Real>::Lstm(const Sizes& sizes, std::uint64_t seed) : sizes_(sizes), trace_(std::make_unique<Trace>()) {
  const std::size_t hidden = sizes.hidden;
  parameters_.emplace_back("in.weight", std::vector{sizes.characters, 4 * hidden});
  parameters_.emplace_back("recurrent.weight", std::vector{hidden, 4 * hidden});
  parameters_.emplace_back("gate.bias", std::vector{4 * hidden});
  parameters_.emplace_back("out.weight", std::vector{hidden, sizes.characters});
  parameters_.emplace_back("out.bias", std::vector{sizes.characters});
  std::mt19937_64 random(seed);
  const double deviation = 1 / std::sqrt(static_cast<double>(hidden));
  parameters_[kInWeight].fill_normal(random, 0.5);
  parameters_[kRecurrentWeight].fill_normal(random, deviation);
  parameters_[kOutWeight].fill_normal(random, deviation);
  const auto forget = parameters_[kGateBias].values.begin() + index(hidden);
  std::fill(forget, forget + index(hidden), Real{1});  // remember at first
}

template <class Real>
Lstm<Real>::~Lstm() = default;
template <class Real>
Lstm<Real>::Lstm(Lstm&&) noexcept = default;
template <class Real>
Lstm<Real>& Lstm<Real>::operator=(Lstm&&) noexcept = default;

template <class Real>
typename Lstm<Real>::State Lstm<Real>::zero_state(std::size_t streams) const {
  return {std::vector<Real>(streams * sizes_.hidden), std::vector<Real>(streams * sizes_.hidden)};
}

template <class Real>
double Lstm<Real>::forward(const std::vector<std::uint8_t>& text, std::size_t streams, State& state) {
  auto& p = parameters_;
  Trace& a = *trace_;
  const Eigen::Index batch = index(streams);
  const Eigen::Index n = index(sizes_.hidden);
  a.steps = index(text.size()) / batch - 1;
  a.hidden.resize((a.steps + 1) * batch, n);
  a.cell.resize((a.steps + 1) * batch, n);
  a.tanh_cell.resize(a.steps * batch, n);
  a.gates.resize(a.steps * batch, 4 * n);
  a.hidden.topRows(batch) = MatrixView<Real>(state.h.data(), batch, n);
  a.cell.topRows(batch) = MatrixView<Real>(state.c.data(), batch, n);
  const auto in_weight = as_matrix(p[kInWeight], p[kInWeight].values);
  for (Eigen::Index row = 0; row < a.gates.rows(); ++row) {
    a.gates.row(row) = in_weight.row(text[static_cast<std::size_t>(row)]) + as_row(p[kGateBias].values);
  }
  for (Eigen::Index t = 0; t < a.steps; ++t) {
    auto gates = a.gates.middleRows(t * batch, batch);
    gates.noalias() +=
        a.hidden.middleRows(t * batch, batch) * as_matrix(p[kRecurrentWeight], p[kRecurrentWeight].values);
    gates.leftCols(2 * n) = gates.leftCols(2 * n).array().logistic().matrix().eval();
    gates.middleCols(2 * n, n) = gates.middleCols(2 * n, n).array().tanh().matrix().eval();
    gates.rightCols(n) = gates.rightCols(n).array().logistic().matrix().eval();
    auto cell = a.cell.middleRows((t + 1) * batch, batch);
    cell = gates.leftCols(n).cwiseProduct(gates.middleCols(2 * n, n)) +
           gates.middleCols(n, n).cwiseProduct(a.cell.middleRows(t * batch, batch));
    a.tanh_cell.middleRows(t * batch, batch) = cell.array().tanh().matrix();
    a.hidden.middleRows((t + 1) * batch, batch) =
        gates.rightCols(n).cwiseProduct(a.tanh_cell.middleRows(t * batch, batch));
  }
  MatrixView<Real>(state.h.data(), batch, n) = a.hidden.bottomRows(batch);
  MatrixView<Real>(state.c.data(), batch, n) = a.cell.bottomRows(batch);
  a.logits.noalias() = a.hidden.bottomRows(a.steps * batch) * as_matrix(p[kOutWeight], p[kOutWeight].values);
  a.logits.rowwise() += as_row(p[kOutBias].values);
  return cross_entropy(a.logits, text.data() + streams) / static_cast<double>(a.logits.rows());
}

template <class Real>
double Lstm<Real>::loss(const std::vector<std::uint8_t>& text, std::size_t streams, State& state) {
  return forward(text, streams, state);
}

template <class Real>
double Lstm<Real>::backward(const std::vector<std::uint8_t>& text, std::size_t streams, State& state) {
  const double mean_loss = forward(text, streams, state);
  auto& p = parameters_;
  Trace& a = *trace_;
  const Eigen::Index batch = index(streams);
  const Eigen::Index n = index(sizes_.hidden);
  const Eigen::Index rows = a.steps * batch;
  as_matrix(p[kOutWeight], p[kOutWeight].gradient).noalias() = a.hidden.bottomRows(rows).transpose() * a.logits;
  as_row(p[kOutBias].gradient) = a.logits.colwise().sum();
  const Matrix<Real> from_out = a.logits * as_matrix(p[kOutWeight], p[kOutWeight].values).transpose();

  Matrix<Real> d_gates(rows, 4 * n);
  Matrix<Real> d_hidden = Matrix<Real>::Zero(batch, n);  // from the steps behind
  Matrix<Real> d_cell = Matrix<Real>::Zero(batch, n);
  for (Eigen::Index t = a.steps; t-- > 0;) {
    const auto gates = a.gates.middleRows(t * batch, batch).array();
    const auto in = gates.leftCols(n);
    const auto forget = gates.middleCols(n, n);
    const auto candidate = gates.middleCols(2 * n, n);
    const auto out = gates.rightCols(n);
    const auto tanh_cell = a.tanh_cell.middleRows(t * batch, batch).array();
    d_hidden += from_out.middleRows(t * batch, batch);
    d_cell.array() += d_hidden.array() * out * (1 - tanh_cell.square());
    auto d = d_gates.middleRows(t * batch, batch);
    d.leftCols(n) = (d_cell.array() * candidate * in * (1 - in)).matrix();
    d.middleCols(n, n) =
        (d_cell.array() * a.cell.middleRows(t * batch, batch).array() * forget * (1 - forget)).matrix();
    d.middleCols(2 * n, n) = (d_cell.array() * in * (1 - candidate.square())).matrix();
    d.rightCols(n) = (d_hidden.array() * tanh_cell * out * (1 - out)).matrix();
    d_cell.array() *= forget;
    d_hidden.noalias() = d * as_matrix(p[kRecurrentWeight], p[kRecurrentWeight].values).transpose();
  }
  as_matrix(p[kRecurrentWeight], p[kRecurrentWeight].gradient).noalias() = a.hidden.topRows(rows).transpose() * d_gates;
  as_row(p[kGateBias].gradient) = d_gates.colwise().sum();
  auto in_gradient = as_matrix(p[kInWeight], p[kInWeight].gradient);
  in_gradient.setZero();
  for (Eigen::Index row = 0; row < rows; ++row)
    in_gradient.row(text[static_cast<std::size_t>(row)]) += d_gates.row(row);
  return mean_loss;
}

template class Lstm<float>;
template class Lstm<double>;

}  // namespace training
