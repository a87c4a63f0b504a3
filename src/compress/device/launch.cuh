#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "base/cuda.hpp"
#include "compress/device/grid.hpp"

namespace gradwire::device {

[[nodiscard]] __device__ inline std::size_t thread_index() {
  return std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
}
[[nodiscard]] __device__ inline std::size_t thread_count() { return std::size_t{gridDim.x} * blockDim.x; }

/// Enqueues a kernel over `threads` threads, or fewer where most_blocks() says so: kernels go on with other work where
/// there is more of it than threads.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), std::size_t threads, StreamRef stream,
            Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks_for(threads, cuda::most_blocks(kMostBlocks)));
  config.blockDim = dim3(kBlockThreads);
  config.stream = cuda::native(stream);
  cuda::check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), name);
}

}  // namespace gradwire::device
