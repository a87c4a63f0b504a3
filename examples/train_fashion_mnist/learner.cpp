#include "learner.hpp"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/torch.h>

#include "fail.hpp"
#include "network.hpp"

namespace demo {
namespace {

using torch::autograd::variable_list;

// of the training images, as fractions of 255
constexpr double kMean = 0.2860;
constexpr double kDeviation = 0.3530;

struct Batch {
  torch::Tensor images;  // f32 [n, 1, 28, 28]
  torch::Tensor labels;  // i64 [n]
};

/// A view; torch only reads through it, but has no type to say so.
torch::Tensor view_of(const std::vector<std::uint8_t>& bytes, torch::IntArrayRef shape) {
  return torch::from_blob(const_cast<std::uint8_t*>(bytes.data()), shape, torch::kUInt8);
}

Batch make_batch(const Split& split, const std::vector<std::int64_t>& indices, torch::Device device) {
  const torch::Tensor chosen = torch::tensor(indices, torch::kInt64);
  const torch::Tensor pixels = view_of(split.pixels, {split.size(), 1, Dataset::kSide, Dataset::kSide});
  const torch::Tensor labels = view_of(split.labels, {split.size()});
  const torch::Tensor values = pixels.index_select(0, chosen).to(device).to(torch::kFloat32);
  return {(values / 255.0 - kMean) / kDeviation, labels.index_select(0, chosen).to(device).to(torch::kInt64)};
}

/// Ranks are the parallelism. libtorch does not pass its own setting on to OpenBLAS, whose function is looked up
/// because another BLAS may be installed in its place.
void use_one_thread() {
  torch::set_num_threads(1);  // of this thread
  using SetThreads = void (*)(int);
  const auto set_threads = reinterpret_cast<SetThreads>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  if (set_threads != nullptr) set_threads(1);  // of the process
}

torch::optim::SGDOptions sgd(const Optimizer& optimizer) {
  constexpr double kUnset = 0;  // update() is told the rate of each step
  const double weight_decay = optimizer.rule_has_momentum ? 0 : optimizer.weight_decay;
  return torch::optim::SGDOptions(kUnset).momentum(optimizer.momentum).weight_decay(weight_decay);
}

/// On the calling thread's device where it is to be on one; in front of an optimiser, which keeps its parameters.
Network make_network(std::uint64_t seed, torch::Device device) {
  Network network(seed);
  network.to(device);
  return network;
}

torch::Device device_of(Place place) { return place == Place::cuda ? torch::kCUDA : torch::kCPU; }

}  // namespace

int cuda_devices() { return static_cast<int>(torch::cuda::device_count()); }

void use_cuda_device(int device) {
  const c10::impl::VirtualGuardImpl guard(c10::DeviceType::CUDA);
  guard.setDevice(c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device)));
}

class Learner::Impl {
 public:
  Impl(std::uint64_t seed, const Optimizer& optimizer, torch::Device device)
      : device_(device),
        network_(make_network(seed, device)),
        settings_(optimizer),
        optimizer_(network_.parameters(), sgd(optimizer)) {
    use_one_thread();
    for (const torch::Tensor& parameter : network_.parameters()) tap(parameter);
  }

  [[nodiscard]] std::vector<Parameter> parameters() const {
    std::vector<Parameter> all;
    for (const auto& named : network_.named_parameters()) {
      const auto sizes = named.value().sizes();
      all.push_back({named.key(), {sizes.begin(), sizes.end()}});
    }
    return all;
  }

  [[nodiscard]] Batch batch(const Split& split, const std::vector<std::int64_t>& indices) const {
    return make_batch(split, indices, device_);
  }

  double backward(const Batch& batch, const std::function<void(const Gradient&)>& ready) {
    for (const Tap& tap : taps_) tap.gradient.zero_();
    ready_ = &ready;
    const torch::Tensor loss = torch::cross_entropy_loss(network_.forward(batch.images), batch.labels);
    loss.backward();
    return loss.item<double>();
  }

  void update(double learning_rate) {
    if (settings_.rule_has_momentum) add_decay();
    for (auto& group : optimizer_.param_groups()) group.options().set_lr(learning_rate);
    optimizer_.step();
  }

  [[nodiscard]] std::int64_t count_correct(const Batch& batch) {
    const torch::NoGradGuard no_grad;
    return network_.forward(batch.images).argmax(1).eq(batch.labels).sum().item<std::int64_t>();
  }

  [[nodiscard]] std::uint64_t fingerprint() const {
    std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a over the floats' bits
    for (const torch::Tensor& parameter : network_.parameters()) {
      const torch::Tensor bits = parameter.detach().cpu().contiguous().view(torch::kInt32);
      const auto* const words = bits.data_ptr<std::int32_t>();
      for (std::int64_t i = 0; i < bits.numel(); ++i) {
        hash = (hash ^ static_cast<std::uint32_t>(words[i])) * 0x100000001b3;
      }
    }
    return hash;
  }

 private:
  struct Tap {
    torch::Tensor gradient;
    torch::Tensor decay;                                 // its momentum: Optimizer's d
    std::shared_ptr<torch::autograd::Node> accumulator;  // the parameter itself holds it only weakly
  };

  /// Gives the parameter a gradient that stays where it is, and listens to the node that adds to it: a hook after that
  /// node sees the finished sum, where a hook on the tensor would see a summand.
  void tap(const torch::Tensor& parameter) {
    const torch::Tensor gradient = torch::zeros(parameter.sizes(), parameter.options().requires_grad(false));
    parameter.mutable_grad() = gradient;
    const Gradient view{taps_.size(), gradient.data_ptr<float>(), static_cast<std::size_t>(gradient.numel())};
    const auto listen = [this, view, parameter](const variable_list& outputs, const variable_list&) {
      require(parameter.grad().data_ptr<float>() == view.data, "libtorch moved the gradient of parameter {}",
              view.parameter);
      (*ready_)(view);
      return outputs;
    };
    auto accumulator = torch::autograd::impl::grad_accumulator(parameter);
    accumulator->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(listen));
    taps_.push_back({gradient, torch::zeros_like(gradient), std::move(accumulator)});
  }

  void add_decay() {
    const torch::NoGradGuard no_grad;
    const std::vector<torch::Tensor> parameters = network_.parameters();
    for (std::size_t i = 0; i < taps_.size(); ++i) {
      taps_[i].decay.mul_(settings_.decay_keep);
      taps_[i].decay.add_(parameters[i], settings_.decay_take * settings_.weight_decay);
      taps_[i].gradient.add_(taps_[i].decay);
    }
  }

  const torch::Device device_;
  Network network_;
  Optimizer settings_;
  torch::optim::SGD optimizer_;
  std::vector<Tap> taps_;
  const std::function<void(const Gradient&)>* ready_ = nullptr;  // of the backward under way
};

Learner::Learner(std::uint64_t seed, const Optimizer& optimizer, Place place)
    : impl_(std::make_unique<Impl>(seed, optimizer, device_of(place))) {}
Learner::~Learner() = default;

std::vector<Learner::Parameter> Learner::parameters() const { return impl_->parameters(); }

double Learner::backward(const Split& split, const std::vector<std::int64_t>& indices,
                         const std::function<void(const Gradient&)>& ready) {
  return impl_->backward(impl_->batch(split, indices), ready);
}

void Learner::update(double learning_rate) { impl_->update(learning_rate); }

std::int64_t Learner::count_correct(const Split& split, const std::vector<std::int64_t>& indices) {
  return impl_->count_correct(impl_->batch(split, indices));
}

std::uint64_t Learner::fingerprint() const { return impl_->fingerprint(); }

}  // namespace demo
