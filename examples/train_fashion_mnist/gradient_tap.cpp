#include "gradient_tap.hpp"

#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "fail.hpp"

namespace demo {
namespace {

using torch::autograd::variable_list;

gradwire::Tensor view_of(const torch::Tensor& tensor) {
  return {tensor.data_ptr(), static_cast<std::size_t>(tensor.numel())};
}

}  // namespace

std::vector<gradwire::ParamInfo> describe_parameters(const torch::nn::Module& module) {
  std::vector<gradwire::ParamInfo> infos;
  for (const auto& parameter : module.named_parameters()) {
    gradwire::ParamInfo info;
    info.id = gradwire::ParamId{static_cast<std::uint32_t>(infos.size())};
    info.name = parameter.key();
    for (const std::int64_t size : parameter.value().sizes()) info.shape.push_back(static_cast<std::size_t>(size));
    infos.push_back(std::move(info));
  }
  return infos;
}

GradientTap::GradientTap(const torch::nn::Module& module, gradwire::GradientHook& hook) {
  for (const torch::Tensor& parameter : module.parameters()) {
    const gradwire::ParamId id{static_cast<std::uint32_t>(tapped_.size())};
    const torch::Tensor gradient = torch::zeros(parameter.sizes(), parameter.options().requires_grad(false));
    parameter.mutable_grad() = gradient;
    // The node that adds to .grad: a hook after it sees the finished sum, where a hook on the tensor sees a summand.
    auto accumulator = torch::autograd::impl::grad_accumulator(parameter);
    const auto report_ready = [&hook, id, parameter, gradient](const variable_list& outputs, const variable_list&) {
      require(parameter.grad().is_same(gradient), "the gradient of parameter {} was replaced during backward",
              static_cast<std::uint32_t>(id));
      hook.ready(id, view_of(gradient));
      return outputs;
    };
    const auto key = accumulator->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(report_ready));
    tapped_.push_back({gradient, std::move(accumulator), key});
  }
}

GradientTap::~GradientTap() {
  for (const Tapped& tapped : tapped_) tapped.accumulator->del_post_hook(tapped.key);
}

void GradientTap::zero() const {
  for (const Tapped& tapped : tapped_) tapped.gradient.zero_();
}

}  // namespace demo
