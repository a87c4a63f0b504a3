#include "transformer.hpp"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "matrix.hpp"

namespace training {
namespace {

enum Name : std::size_t { kEmbedding, kPosition, kFirstBlock };
enum NameInBlock : std::size_t {
  kNorm1,
  kQkv = kNorm1 + 2,  // a weight, and its bias behind it
  kOut = kQkv + 2,
  kNorm2 = kOut + 2,
  kUp = kNorm2 + 2,
  kDown = kUp + 2,
  kBlockSize = kDown + 2,
};

template <class Real>
using Column = Eigen::Matrix<Real, Eigen::Dynamic, 1>;

/// A weight and the bias behind it.
template <class Real>
struct Layer {
  Parameter<Real>& weight;
  Parameter<Real>& bias;
};
template <class Real>
Layer<Real> layer(std::vector<Parameter<Real>>& parameters, std::size_t first) {
  return {parameters[first], parameters[first + 1]};
}

template <class Real>
Matrix<Real> linear(const Matrix<Real>& x, Layer<Real> to) {
  Matrix<Real> y = x * as_matrix(to.weight, to.weight.values);
  y.rowwise() += as_row(to.bias.values);
  return y;
}

/// Leaves the gradients of weight and bias, returns that of x.
template <class Real>
Matrix<Real> linear_backward(const Matrix<Real>& x, Layer<Real> to, const Matrix<Real>& d) {
  as_matrix(to.weight, to.weight.gradient).noalias() = x.transpose() * d;
  as_row(to.bias.gradient) = d.colwise().sum();
  return d * as_matrix(to.weight, to.weight.values).transpose();
}

/// What the way back needs of a normalisation.
template <class Real>
struct Norm {
  Matrix<Real> unit;     // rows of mean 0 and variance 1
  Column<Real> inverse;  // of a row's deviation
  Matrix<Real> result;
};

template <class Real>
void normalise(const Matrix<Real>& x, Layer<Real> to, Norm<Real>& norm) {
  constexpr Real kEpsilon = Real(1e-5);
  norm.unit = x.colwise() - x.rowwise().mean();
  norm.inverse = (norm.unit.rowwise().squaredNorm().array() / Real(x.cols()) + kEpsilon).rsqrt();
  norm.unit = norm.inverse.asDiagonal() * norm.unit;
  norm.result = norm.unit * as_row(to.weight.values).asDiagonal();
  norm.result.rowwise() += as_row(to.bias.values);
}

template <class Real>
Matrix<Real> normalise_backward(const Norm<Real>& norm, Layer<Real> to, const Matrix<Real>& d) {
  as_row(to.weight.gradient) = d.cwiseProduct(norm.unit).colwise().sum();
  as_row(to.bias.gradient) = d.colwise().sum();
  Matrix<Real> unit = d * as_row(to.weight.values).asDiagonal();
  const Column<Real> along = unit.cwiseProduct(norm.unit).rowwise().mean();
  unit.colwise() -= unit.rowwise().mean().eval();
  unit -= along.asDiagonal() * norm.unit;
  return norm.inverse.asDiagonal() * unit;
}

/// gelu(x) = x (1 + tanh(u)) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3)
constexpr double kGelu = 0.044715;
const double kGeluScale = std::sqrt(2 * std::numbers::inv_pi);

template <class Real>
Matrix<Real> gelu_tanh(const Matrix<Real>& x) {
  return (Real(kGeluScale) * (x.array() + Real(kGelu) * x.array().cube())).tanh().matrix();
}

template <class Real>
Matrix<Real> gelu(const Matrix<Real>& x) {
  return (Real(0.5) * x.array() * (1 + gelu_tanh(x).array())).matrix();
}

template <class Real>
Matrix<Real> gelu_backward(const Matrix<Real>& x, const Matrix<Real>& d) {
  const Matrix<Real> tanh = gelu_tanh(x);
  const auto slope = Real(kGeluScale) * (1 + Real(3 * kGelu) * x.array().square());
  return (d.array() * Real(0.5) * (1 + tanh.array() + x.array() * (1 - tanh.array().square()) * slope)).matrix();
}

/// How rows of streams and columns of heads lie in a matrix (streams * steps) x (3 width).
struct Heads {
  Eigen::Index streams = 0;
  Eigen::Index steps = 0;
  Eigen::Index heads = 0;
  Eigen::Index size = 0;  // of a head

  [[nodiscard]] Eigen::Index width() const { return heads * size; }
  /// Query, key or value (0, 1, 2) of one head in one stream.
  template <class M>
  [[nodiscard]] auto part(M& qkv, Eigen::Index stream, Eigen::Index head, Eigen::Index which) const {
    return qkv.block(stream * steps, which * width() + head * size, steps, size);
  }
  /// The steps x steps weights of one head in one stream.
  template <class M>
  [[nodiscard]] auto weights(M& all, Eigen::Index stream, Eigen::Index head) const {
    return all.middleRows((stream * heads + head) * steps, steps);
  }
};

/// In place: each row becomes the softmax of its entries up to the diagonal, zero behind.
template <class Scores>
void causal_softmax(Scores scores) {
  for (Eigen::Index row = 0; row < scores.rows(); ++row) {
    auto seen = scores.row(row).head(row + 1);
    seen = (seen.array() - seen.maxCoeff()).exp().matrix().eval();
    seen /= seen.sum();
    scores.row(row).tail(scores.cols() - row - 1).setZero();
  }
}

/// `weights` and the result are left for the way back.
template <class Real>
void attend(const Heads& h, const Matrix<Real>& qkv, Matrix<Real>& weights, Matrix<Real>& mixed) {
  const Real scale = 1 / std::sqrt(static_cast<Real>(h.size));
  weights.resize(h.streams * h.heads * h.steps, h.steps);
  mixed.resize(qkv.rows(), h.width());
  for (Eigen::Index stream = 0; stream < h.streams; ++stream) {
    for (Eigen::Index head = 0; head < h.heads; ++head) {
      auto weight = h.weights(weights, stream, head);
      weight.noalias() = scale * h.part(qkv, stream, head, 0) * h.part(qkv, stream, head, 1).transpose();
      causal_softmax(weight);
      mixed.block(stream * h.steps, head * h.size, h.steps, h.size).noalias() = weight * h.part(qkv, stream, head, 2);
    }
  }
}

template <class Real>
Matrix<Real> attend_backward(const Heads& h, const Matrix<Real>& qkv, const Matrix<Real>& weights,
                             const Matrix<Real>& d_mixed) {
  const Real scale = 1 / std::sqrt(static_cast<Real>(h.size));
  Matrix<Real> d_qkv(qkv.rows(), qkv.cols());
  Matrix<Real> d_scores(h.steps, h.steps);
  for (Eigen::Index stream = 0; stream < h.streams; ++stream) {
    for (Eigen::Index head = 0; head < h.heads; ++head) {
      const auto weight = h.weights(weights, stream, head);
      const auto d = d_mixed.block(stream * h.steps, head * h.size, h.steps, h.size);
      h.part(d_qkv, stream, head, 2).noalias() = weight.transpose() * d;
      d_scores.noalias() = scale * d * h.part(qkv, stream, head, 2).transpose();
      const Column<Real> sums = d_scores.cwiseProduct(weight).rowwise().sum();
      d_scores.colwise() -= sums;
      d_scores = d_scores.cwiseProduct(weight).eval();
      h.part(d_qkv, stream, head, 0).noalias() = d_scores * h.part(qkv, stream, head, 1);
      h.part(d_qkv, stream, head, 1).noalias() = d_scores.transpose() * h.part(qkv, stream, head, 0);
    }
  }
  return d_qkv;
}

/// What the way back needs of a block.
template <class Real>
struct BlockTrace {
  Norm<Real> norm1;
  Matrix<Real> qkv;
  Matrix<Real> weights;
  Matrix<Real> mixed;
  Norm<Real> norm2;
  Matrix<Real> up;
  Matrix<Real> active;
};

template <class Real>
void block_forward(std::vector<Parameter<Real>>& p, std::size_t first, const Heads& heads, Matrix<Real>& x,
                   BlockTrace<Real>& a) {
  normalise(x, layer(p, first + kNorm1), a.norm1);
  a.qkv = linear(a.norm1.result, layer(p, first + kQkv));
  attend(heads, a.qkv, a.weights, a.mixed);
  x += linear(a.mixed, layer(p, first + kOut));
  normalise(x, layer(p, first + kNorm2), a.norm2);
  a.up = linear(a.norm2.result, layer(p, first + kUp));
  a.active = gelu(a.up);
  x += linear(a.active, layer(p, first + kDown));
}

/// `d`: in, the gradient of what the block made; out, of what it was given.
template <class Real>
void block_backward(std::vector<Parameter<Real>>& p, std::size_t first, const Heads& heads, const BlockTrace<Real>& a,
                    Matrix<Real>& d) {
  const Matrix<Real> d_up = gelu_backward(a.up, linear_backward(a.active, layer(p, first + kDown), d));
  d += normalise_backward(a.norm2, layer(p, first + kNorm2),
                          linear_backward(a.norm2.result, layer(p, first + kUp), d_up));
  const Matrix<Real> d_mixed = linear_backward(a.mixed, layer(p, first + kOut), d);
  const Matrix<Real> d_qkv = attend_backward(heads, a.qkv, a.weights, d_mixed);
  d += normalise_backward(a.norm1, layer(p, first + kNorm1),
                          linear_backward(a.norm1.result, layer(p, first + kQkv), d_qkv));
}

/// The character that each row predicts.
std::vector<std::uint8_t> targets_of(const std::vector<std::uint8_t>& text, std::size_t streams) {
  const std::size_t piece = text.size() / streams;
  std::vector<std::uint8_t> targets;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i % piece != 0) targets.push_back(text[i]);
  }
  return targets;
}

}  // namespace

/// Rows stream * steps + step.
template <class Real>
struct Transformer<Real>::Trace {
  Heads heads;
  std::vector<BlockTrace<Real>> blocks;
  Norm<Real> norm;
  Matrix<Real> logits;
};

template <class Real>
Transformer<Real>::Transformer(const Sizes& sizes, std::uint64_t seed)
    : sizes_(sizes), trace_(std::make_unique<Trace>()) {
  std::mt19937_64 random(seed);
  const std::size_t width = sizes.width;
  const auto add = [&](const std::string& name, std::size_t rows, std::size_t cols, double deviation) {
    parameters_.emplace_back(name, std::vector{rows, cols}).fill_normal(random, deviation);
  };
  const auto add_linear = [&](const std::string& name, std::size_t inputs, std::size_t outputs, double scale) {
    add(name + ".weight", inputs, outputs, scale / std::sqrt(static_cast<double>(inputs)));
    parameters_.emplace_back(name + ".bias", std::vector{outputs});
  };
  const auto add_norm = [&](const std::string& name) {
    auto& weight = parameters_.emplace_back(name + ".weight", std::vector{width}).values;
    std::fill(weight.begin(), weight.end(), Real{1});
    parameters_.emplace_back(name + ".bias", std::vector{width});
  };
  constexpr double kEmbedded = 0.3;
  const double branch =
      1 / std::sqrt(2 * static_cast<double>(sizes.layers));  // what all of them add up to stays of size 1
  add("embedding.weight", sizes.characters, width, kEmbedded);
  add("position.weight", sizes.context, width, kEmbedded);
  for (std::size_t i = 0; i < sizes.layers; ++i) {
    const std::string block = fmt::format("blocks.{}.", i);
    add_norm(block + "norm1");
    add_linear(block + "attn.qkv", width, 3 * width, 1);
    add_linear(block + "attn.out", width, width, branch);
    add_norm(block + "norm2");
    add_linear(block + "mlp.up", width, 4 * width, 1);
    add_linear(block + "mlp.down", 4 * width, width, branch);
  }
  add_norm("norm");
  add("head.weight", width, sizes.characters, 1 / std::sqrt(static_cast<double>(width)));
}

template <class Real>
Transformer<Real>::~Transformer() = default;
template <class Real>
Transformer<Real>::Transformer(Transformer&&) noexcept = default;
template <class Real>
Transformer<Real>& Transformer<Real>::operator=(Transformer&&) noexcept = default;

template <class Real>
void Transformer<Real>::forward(const std::vector<std::uint8_t>& text, std::size_t streams) {
  auto& p = parameters_;
  Trace& a = *trace_;
  a.heads = {index(streams), index(text.size() / streams) - 1, index(sizes_.heads), index(sizes_.width / sizes_.heads)};
  a.blocks.resize(sizes_.layers);
  const auto embedding = as_matrix(p[kEmbedding], p[kEmbedding].values);
  const auto position = as_matrix(p[kPosition], p[kPosition].values);
  Matrix<Real> x(a.heads.streams * a.heads.steps, index(sizes_.width));
  for (Eigen::Index stream = 0; stream < a.heads.streams; ++stream) {
    const std::uint8_t* const piece = text.data() + stream * (a.heads.steps + 1);
    for (Eigen::Index t = 0; t < a.heads.steps; ++t) {
      x.row(stream * a.heads.steps + t) = embedding.row(piece[t]) + position.row(t);
    }
  }
  for (std::size_t i = 0; i < sizes_.layers; ++i) {
    block_forward(p, kFirstBlock + i * kBlockSize, a.heads, x, a.blocks[i]);
  }
  const std::size_t tail = kFirstBlock + sizes_.layers * kBlockSize;
  normalise(x, layer(p, tail), a.norm);
  a.logits.noalias() = a.norm.result * as_matrix(p[tail + 2], p[tail + 2].values);
}

template <class Real>
std::vector<double> Transformer<Real>::losses(const std::vector<std::uint8_t>& text, std::size_t streams) {
  forward(text, streams);
  const Matrix<Real>& logits = trace_->logits;
  const std::vector<std::uint8_t> targets = targets_of(text, streams);
  std::vector<double> losses;
  for (Eigen::Index row = 0; row < logits.rows(); ++row) {
    const Real highest = logits.row(row).maxCoeff();
    const Real sum = (logits.row(row).array() - highest).exp().sum();
    losses.push_back(static_cast<double>(std::log(sum) + highest - logits(row, targets[losses.size()])));
  }
  return losses;
}

template <class Real>
double Transformer<Real>::backward(const std::vector<std::uint8_t>& text, std::size_t streams) {
  forward(text, streams);
  auto& p = parameters_;
  Trace& a = *trace_;
  const double loss = cross_entropy(a.logits, targets_of(text, streams).data()) / static_cast<double>(a.logits.rows());
  const std::size_t tail = kFirstBlock + sizes_.layers * kBlockSize;
  as_matrix(p[tail + 2], p[tail + 2].gradient).noalias() = a.norm.result.transpose() * a.logits;
  Matrix<Real> d = normalise_backward<Real>(a.norm, layer(p, tail),
                                            a.logits * as_matrix(p[tail + 2], p[tail + 2].values).transpose());
  for (std::size_t i = sizes_.layers; i-- > 0;) {
    block_backward(p, kFirstBlock + i * kBlockSize, a.heads, a.blocks[i], d);
  }
  auto embedding = as_matrix(p[kEmbedding], p[kEmbedding].gradient);
  auto position = as_matrix(p[kPosition], p[kPosition].gradient);
  embedding.setZero();
  position.setZero();
  for (Eigen::Index stream = 0; stream < a.heads.streams; ++stream) {
    const std::uint8_t* const piece = text.data() + stream * (a.heads.steps + 1);
    for (Eigen::Index t = 0; t < a.heads.steps; ++t) {
      embedding.row(piece[t]) += d.row(stream * a.heads.steps + t);
      position.row(t) += d.row(stream * a.heads.steps + t);
    }
  }
  return loss;
}

template class Transformer<float>;
template class Transformer<double>;

}  // namespace training
