#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "base/cuda.hpp"
#include "compress/device/grid.hpp"

namespace gradwire::device {

inline constexpr unsigned kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffff'ffff;

[[nodiscard]] __device__ inline std::size_t thread_index() {
  return std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
}
[[nodiscard]] __device__ inline std::size_t thread_count() { return std::size_t{gridDim.x} * blockDim.x; }

/// Enqueues a kernel over `rows` times `threads` threads, or fewer where most_blocks() says so: kernels go on with
/// other work where there is more of it than threads.
template <class... Parameters, class... Arguments>
void launch_rows(const char* name, void (*kernel)(Parameters...), std::size_t threads, std::size_t rows,
                 StreamRef stream, Arguments&&... arguments) {
  const unsigned most = cuda::most_blocks(kMostBlocks, kBlockThreads);
  const unsigned blocks = blocks_for(threads, most);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks, rows_for(rows, most / blocks));
  config.blockDim = dim3(kBlockThreads);
  config.stream = cuda::native(stream);
  cuda::check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), name);
}
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), std::size_t threads, StreamRef stream,
            Arguments&&... arguments) {
  launch_rows(name, kernel, threads, 1, stream, std::forward<Arguments>(arguments)...);
}

}  // namespace gradwire::device
