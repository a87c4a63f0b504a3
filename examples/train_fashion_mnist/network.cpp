#include "network.hpp"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "dataset.hpp"

namespace demo {
namespace {

constexpr std::int64_t kChannels1 = 16;
constexpr std::int64_t kChannels2 = 32;
constexpr std::int64_t kHidden = 256;
constexpr std::int64_t kPooledSide = Dataset::kSide / 4;

torch::nn::Conv2d convolution(std::int64_t inputs, std::int64_t outputs) {
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(inputs, outputs, 3).padding(1));
}

}  // namespace

Network::Network(std::uint64_t seed) {
  conv1_ = register_module("conv1", convolution(1, kChannels1));
  conv2_ = register_module("conv2", convolution(kChannels1, kChannels2));
  hidden_ = register_module("hidden", torch::nn::Linear(kChannels2 * kPooledSide * kPooledSide, kHidden));
  output_ = register_module("output", torch::nn::Linear(kHidden, Dataset::kClasses));

  const torch::NoGradGuard no_grad;
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (torch::Tensor& parameter : parameters()) {
    if (parameter.dim() == 1) {
      parameter.zero_();
    } else {  // He et al. 2015, uniform: inputs of one output are all but the first dimension
      const auto fan_in = static_cast<double>(parameter.numel() / parameter.size(0));
      const double bound = std::sqrt(6.0 / fan_in);
      parameter.uniform_(-bound, bound, generator);
    }
  }
}

torch::Tensor Network::forward(const torch::Tensor& images) {
  // libtorch pools four times faster with channels last; conv1 of a single channel would leave them first. The maximum
  // is taken first because it commutes with relu, which then has a quarter of the work.
  torch::Tensor x = conv1_(images).contiguous(torch::MemoryFormat::ChannelsLast);
  x = torch::max_pool2d(x, 2).relu_();
  x = torch::max_pool2d(conv2_(x), 2).relu_();
  return output_(hidden_(x.flatten(1)).relu_());
}

}  // namespace demo
