#pragma once
#include <torch/torch.h>

#include <string>

namespace demo {

/// Images with their classes: `images` u8 [n, 1, 28, 28], `labels` i64 [n].
struct Split {
  torch::Tensor images;
  torch::Tensor labels;

  [[nodiscard]] std::int64_t size() const { return labels.size(0); }
};

/// What the network sees of some images at once: f32 of mean 0 and variance 1 over the training set, and classes.
struct Batch {
  torch::Tensor images;
  torch::Tensor labels;
};
[[nodiscard]] Batch make_batch(const Split& split, const torch::Tensor& indices);

struct Dataset {
  static constexpr std::int64_t kSide = 28;
  static constexpr std::int64_t kClasses = 10;
  Split train;
  Split test;
};

/// Reads Fashion-MNIST's four gzip files. Throws std::runtime_error naming the file, what is wrong with it and the
/// Debian package it comes from.
[[nodiscard]] Dataset load_dataset(const std::string& directory);

}  // namespace demo
