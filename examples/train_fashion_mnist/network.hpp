#pragma once
#include <torch/torch.h>

#include <cstdint>

namespace demo {

/// Two convolutions and two fully connected layers: some 410 000 parameters, nearly all of them in matrices.
class Network final : public torch::nn::Module {
 public:
  /// The same seed gives the same weights on every rank, also where ranks are threads that share torch's generator.
  explicit Network(std::uint64_t seed);

  /// f32 [n, 1, 28, 28] to unnormalised scores [n, 10].
  [[nodiscard]] torch::Tensor forward(const torch::Tensor& images);

 private:
  torch::nn::Conv2d conv1_{nullptr};
  torch::nn::Conv2d conv2_{nullptr};
  torch::nn::Linear hidden_{nullptr};
  torch::nn::Linear output_{nullptr};
};

}  // namespace demo
