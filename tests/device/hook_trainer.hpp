#pragma once
#include <optional>
#include <utility>
#include <vector>

#include "device/device_support.hpp"

#include "gradwire/hook.hpp"

/// \file What tests train with: a model whose hook is on a host or a device, as its options say.
namespace gradwire::testing {

inline std::vector<ParamInfo> params() {
  return {{ParamId{1}, "embedding", {70, 40}, DType::f32},
          {ParamId{2}, "bias", {40}, DType::f32},
          {ParamId{3}, "half", {50, 60}, DType::f16},
          {ParamId{4}, "brain", {33, 65}, DType::bf16},
          {ParamId{5}, "head", {128, 32}, DType::f32}};
}
inline std::size_t count_of(const ParamInfo& info) {
  std::size_t count = 1;
  for (const std::size_t extent : info.shape) count *= extent;
  return count;
}
inline std::vector<Values> gradients_of(int rank, unsigned step) {
  std::vector<Values> gradients;
  unsigned seed = static_cast<unsigned>(rank) * 1000 + step * 10;
  for (const ParamInfo& info : params()) gradients.emplace_back(normal_gradients(count_of(info), ++seed), info.dtype);
  return gradients;
}

inline HookOptions options_of(Space space) {
  HookOptions options;
  options.space = space;
  options.bucket_bytes = 16u << 10;
  options.timeout = std::chrono::seconds(60);
  return options;
}

/// What ranks train with: gradients in, updates out.
class Trainer {
 public:
  Trainer(const Communicator& comm, const HookOptions& options)
      : rank_(comm.rank()), space_(options.space), hook_(comm, params(), options) {
    if (space_ == Space::device) stream_.emplace();
  }

  [[nodiscard]] GradientHook& hook() { return hook_; }
  /// The hook is called where this device is current.
  void call_on(int device) { calling_ = device; }

  /// Updates of a step with these gradients, which come in an order that ranks differ in; `missing` never comes.
  std::vector<std::vector<std::byte>> step(std::vector<Values> gradients, std::size_t missing = ~std::size_t{0}) {
    std::vector<OnDevice> there;
    std::vector<std::size_t> order;
    for (std::size_t p = 0; p < gradients.size(); ++p) {
      order.push_back((p + static_cast<std::size_t>(rank_)) % gradients.size());
      if (space_ == Space::device)
        there.emplace_back(std::as_const(gradients[p]).tensor(), stream_->ref(), size_of(params()[p].dtype));
    }
    const device::Scope scope(calling_);
    for (const std::size_t p : order) {
      if (p == missing) continue;
      const ParamInfo info = params()[p];
      if (space_ == Space::device) {
        hook_.ready(info.id, there[p].tensor(count_of(info), info.dtype), stream_->ref());
      } else {
        hook_.ready(info.id, gradients[p].tensor());
      }
    }
    hook_.finish_step().wait();
    std::vector<std::vector<std::byte>> updates;
    for (std::size_t p = 0; p < gradients.size(); ++p)
      updates.push_back(space_ == Space::device ? there[p].read(stream_->ref())
                                                : bytes_of(std::as_const(gradients[p]).tensor()));
    return updates;
  }

 private:
  int rank_;
  Space space_;
  int calling_ = -1;
  std::optional<device::Stream> stream_;
  GradientHook hook_;
};

}  // namespace gradwire::testing
