#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dataset.hpp"
#include "optimizer.hpp"
#include "place.hpp"

namespace demo {

/// Devices that libtorch can compute on; 0 where it is built for hosts only.
[[nodiscard]] int cuda_devices();
/// Makes it the calling thread's, for libtorch and gradwire alike.
void use_cuda_device(int device);

/// The network and its optimiser. libtorch stays behind this header, in C++17: as C++20, clang 14
/// cannot compile libtorch 1.13.
class Learner {
 public:
  struct Parameter {
    std::string name;
    std::vector<std::size_t> shape;
  };
  /// Memory of the gradient of parameters()[parameter]: the same in every step, where the network is. On a device it is
  /// written in the order of the legacy default stream, libtorch's unless a program asks for another.
  struct Gradient {
    std::size_t parameter;
    float* data;
    std::size_t count;
  };

  /// On the host, or on the calling thread's device.
  Learner(std::uint64_t seed, const Optimizer& optimizer, Place place);
  Learner(const Learner&) = delete;
  Learner& operator=(const Learner&) = delete;
  ~Learner();

  /// In the order in which forward uses them.
  [[nodiscard]] std::vector<Parameter> parameters() const;

  /// Computes the gradients of the mean loss over these images and returns that loss. Calls `ready` for each parameter
  /// at the moment that backward has finished its gradient, while it goes on with the others.
  double backward(const Split& split, const std::vector<std::int64_t>& indices,
                  const std::function<void(const Gradient&)>& ready);
  /// One step of the optimiser, along the update that the gradients' memory holds now; overwrites it.
  void update(double learning_rate);

  [[nodiscard]] std::int64_t count_correct(const Split& split, const std::vector<std::int64_t>& indices);
  /// Of all weights: equal on replicas that hold the same bits.
  [[nodiscard]] std::uint64_t fingerprint() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace demo
