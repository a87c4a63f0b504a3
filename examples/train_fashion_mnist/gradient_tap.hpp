#pragma once
#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "gradwire/hook.hpp"

namespace demo {

/// The model's parameters as gradwire wants them: in forward order, with names and shapes; ids are positions.
[[nodiscard]] std::vector<gradwire::ParamInfo> describe_parameters(const torch::nn::Module& module);

/// Hands every gradient to gradwire at the moment that backward has finished it, so that it travels while backward goes
/// on. This is the whole bridge between libtorch and gradwire; after the step's Work, the gradients hold the updates.
class GradientTap {
 public:
  /// Gives every parameter a gradient of zeros, whose memory stays the same from then on. `hook` must outlive this.
  GradientTap(const torch::nn::Module& module, gradwire::GradientHook& hook);
  GradientTap(const GradientTap&) = delete;
  GradientTap& operator=(const GradientTap&) = delete;
  ~GradientTap();

  /// Sets all gradients to zero in place; before every backward.
  void zero() const;

 private:
  struct Tapped {
    torch::Tensor gradient;
    std::shared_ptr<torch::autograd::Node> accumulator;  // the parameter itself only holds it weakly
    std::uintptr_t key;
  };
  std::vector<Tapped> tapped_;
};

}  // namespace demo
