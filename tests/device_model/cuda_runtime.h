#pragma once
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda_runtime_api.h"
#include "model.hpp"

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}  // NOLINT: as CUDA's
};
struct cudaLaunchAttribute {};
struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  static_assert((sizeof(Parameters) + ... + 0) <= 32764, "a launch has no room for such parameters");
  const dim3 blocks = config->gridDim;
  const dim3 threads = config->blockDim;
  if (config->dynamicSmemBytes != 0 || blocks.x == 0 || blocks.y == 0 || blocks.z == 0 || threads.x == 0 ||
      threads.x * threads.y * threads.z > 1024 || blocks.y > 65535 || blocks.z > 65535)
    return cudaErrorInvalidValue;
  const device_model::Grid grid{{blocks.x, blocks.y, blocks.z}, {threads.x, threads.y, threads.z}};
  return device_model::launch(
      config->stream,
      [grid, kernel, values = std::tuple<std::remove_cvref_t<Parameters>...>(std::forward<Arguments>(arguments)...)] {
        device_model::run_grid(grid, [&] { std::apply(kernel, values); });
      });
}
