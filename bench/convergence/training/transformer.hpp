#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "parameter.hpp"

namespace training {

/// A decoder-only transformer over characters, normalised before each of its parts (GPT-2's layout):
///
///     x = embedding[character] + position[place]
///     x += attention(norm1(x))      x += mlp(norm2(x))      in each block
///     logits = norm(x) head
///
/// Attention looks at the places up to its own. The mlp is width -> 4 width, gelu (its tanh form), -> width.
///
/// Instantiated for float, and for double so that tests can difference it.
template <class Real>
class Transformer {
 public:
  struct Sizes {
    std::size_t characters = 0;
    std::size_t width = 128;  ///< a multiple of heads
    std::size_t heads = 4;
    std::size_t layers = 2;
    std::size_t context = 64;  ///< the most characters of a piece
  };

  Transformer(const Sizes& sizes, std::uint64_t seed);
  ~Transformer();
  Transformer(Transformer&&) noexcept;
  Transformer& operator=(Transformer&&) noexcept;

  /// Of block i `blocks.i.norm1.weight`, `blocks.i.attn.qkv.weight` (width x 3 width) and so on; a layer's weight is
  /// inputs x outputs.
  [[nodiscard]] std::vector<Parameter<Real>>& parameters() { return parameters_; }

  /// Pieces of several streams, one after another: `text` is streams x (steps + 1), a character number each, with steps
  /// at most the context; each predicts the next of its stream from those before. Leaves the gradient of the mean loss
  /// and returns that loss, in nats a character.
  double backward(const std::vector<std::uint8_t>& text, std::size_t streams);
  /// The loss of each prediction, streams x steps. No gradient.
  std::vector<double> losses(const std::vector<std::uint8_t>& text, std::size_t streams);

 private:
  struct Trace;
  void forward(const std::vector<std::uint8_t>& text, std::size_t streams);

  Sizes sizes_;
  std::vector<Parameter<Real>> parameters_;
  std::unique_ptr<Trace> trace_;  // of the last forward pass
};

}  // namespace training
