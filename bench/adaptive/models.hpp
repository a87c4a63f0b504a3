#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace gradwire::adaptive {

struct Parameter {
  std::string name;
  std::vector<std::size_t> shape;
  double positions = 1;  ///< at which it is used in a sample: backward's work is elements times positions
};

/// Parameters of a published model, in the order of its forward pass.
struct Model {
  std::string name;
  double backward_us = 0;  ///< assumed
  std::vector<Parameter> parameters;
};

[[nodiscard]] std::uint64_t elements(const std::vector<std::size_t>& shape);

/// ResNet-50 (25 557 032 elements), Transformer-XL base on WikiText-103 (192 million:
/// 191 950 298), BERT-base with its pooler (109 482 240), GPT-2 medium with tied output (354 823 168). Throws
/// std::logic_error where shapes do not add up to that.
[[nodiscard]] std::vector<Model> models();

}  // namespace gradwire::adaptive
