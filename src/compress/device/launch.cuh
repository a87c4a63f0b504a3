#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <type_traits>
#include <utility>

#include "base/cuda.hpp"
#include "compress/device/batch.hpp"
#include "compress/device/grid.hpp"
#include "compress/job_list.hpp"

namespace gradwire::device {

inline constexpr unsigned kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffff'ffff;

/// Bytes of parameters that a launch may have.
#if defined(CUDART_VERSION) && CUDART_VERSION < 12010
inline constexpr std::size_t kParameterBytes = 4096;
#else
inline constexpr std::size_t kParameterBytes = 32764;
#endif

[[nodiscard]] __device__ inline std::size_t thread_index() {
  return std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
}
[[nodiscard]] __device__ inline std::size_t thread_count() { return std::size_t{gridDim.x} * blockDim.x; }

/// Enqueues a kernel over so many threads, or fewer where most_blocks() says so: kernels go on with other work where
/// there is more of it than threads.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), std::size_t threads, StreamRef stream,
            Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks_for(threads, cuda::most_blocks(kMostBlocks, kBlockThreads)));
  config.blockDim = dim3(kBlockThreads);
  config.stream = cuda::native(stream);
  cuda::check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), name);
}

/// How jobs of several tensors are launched.
struct JobLaunch {
  const char* name;
  StreamRef stream;
  std::size_t threads_an_item = kBlockThreads;
};

/// Enqueues a kernel over `count` jobs, as many at a time as a launch's parameters hold. `next(i)` makes job i: it is
/// called once for each, in order, so that it may go on from the one before. `items_of(job)` says how much work each
/// is; those that are none are left out. `kernel_of(capacity)`, capacity a std::integral_constant, is the kernel that
/// takes a Batch of so many, and `shared`.
template <class Next, class ItemsOf, class KernelOf, class... Shared>
void launch_in_turn(const JobLaunch& what, std::size_t count, const Next& next, const ItemsOf& items_of,
                    const KernelOf& kernel_of, const Shared&... shared) {
  using Job = std::invoke_result_t<const Next&, std::size_t>;
  static_assert(std::is_trivially_copyable_v<Job>);
  constexpr std::size_t kMost = jobs_in<Job>(kParameterBytes - (sizeof(Shared) + ... + (16 * sizeof...(Shared))));
  Batch<Job, kMost> batch;
  const auto enqueue = [&] {
    const std::size_t threads = batch.items() * what.threads_an_item;
    if (batch.size() > 1) {
      launch(what.name, kernel_of(std::integral_constant<std::size_t, kMost>{}), threads, what.stream, batch,
             shared...);
    } else if (batch.size() == 1) {  // with parameters of that size
      Batch<Job, 1> one;
      one.add(batch[0], batch.items());
      launch(what.name, kernel_of(std::integral_constant<std::size_t, 1>{}), threads, what.stream, one, shared...);
    }
    batch.clear();
  };
  for (std::size_t i = 0; i < count; ++i) {
    const Job job = next(i);
    const std::size_t items = items_of(job);
    if (items > 0) batch.add(job, items);
    if (batch.is_full()) enqueue();
  }
  enqueue();
}

/// The same of a list.
template <class Job, class ItemsOf, class KernelOf, class... Shared>
void launch_jobs(const JobLaunch& what, const JobList<Job>& jobs, const ItemsOf& items_of, const KernelOf& kernel_of,
                 const Shared&... shared) {
  launch_in_turn(
      what, jobs.size(), [&](std::size_t i) { return jobs[i]; }, items_of, kernel_of, shared...);
}

/// Calls work(job, item) for each of this block's items, all of its threads together.
template <class Job, std::size_t capacity, class Work>
__device__ void for_each_item(const Batch<Job, capacity>& batch, const Work& work) {
  for (std::size_t all = blockIdx.x; all < batch.items(); all += gridDim.x) {
    std::size_t item = all;
    const Job& job = batch.find(item);
    work(job, item);
  }
}
/// This thread's number among those of a job's (or a frame's) blocks.
[[nodiscard]] __device__ inline std::size_t thread_of(std::size_t item) { return item * kBlockThreads + threadIdx.x; }

}  // namespace gradwire::device
