#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "parameter.hpp"

namespace training {

/// One layer of long short-term memory over characters: one hot -> hidden -> the next character.
///
///     [i f g o] = x_t Wx + h_{t-1} Wh + b      c_t = sigm(f) c_{t-1} + sigm(i) tanh(g)      h_t = sigm(o) tanh(c_t)
///
/// Instantiated for float, and for double so that tests can difference it.
template <class Real>
class Lstm {
 public:
  struct Sizes {
    std::size_t characters = 0;
    std::size_t hidden = 128;
  };
  /// What a stream of text carries from one piece to the next: h and c, streams x hidden.
  struct State {
    std::vector<Real> h;
    std::vector<Real> c;
  };

  Lstm(const Sizes& sizes, std::uint64_t seed);
  ~Lstm();
  Lstm(Lstm&&) noexcept;
  Lstm& operator=(Lstm&&) noexcept;

  [[nodiscard]] std::vector<Parameter<Real>>& parameters() { return parameters_; }
  [[nodiscard]] State zero_state(std::size_t streams) const;

  /// A piece of several streams: `text` is (steps + 1) x streams, a character number each; row t predicts row t + 1.
  /// Leaves the gradient of the mean loss, cut off at the piece's begin, moves `state` on, and returns the mean loss in
  /// nats a character.
  double backward(const std::vector<std::uint8_t>& text, std::size_t streams, State& state);
  /// The same without a gradient.
  double loss(const std::vector<std::uint8_t>& text, std::size_t streams, State& state);

 private:
  struct Trace;
  double forward(const std::vector<std::uint8_t>& text, std::size_t streams, State& state);

  Sizes sizes_;
  std::vector<Parameter<Real>> parameters_;
  std::unique_ptr<Trace> trace_;  // of the last forward pass
};

}  // namespace training
