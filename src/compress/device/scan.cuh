#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/device/launch.cuh"

/// \file Prefix sums over threads, and over the tiles of a tensor.
namespace gradwire::device {

/// Shared memory of exclusive_sum().
struct BlockSums {
  std::uint64_t warps[kBlockThreads / kWarp];
};

/// The sum of what the threads of the block before this one have, and of all: every thread calls it.
__device__ inline std::uint64_t exclusive_sum(std::uint64_t value, BlockSums& shared, std::uint64_t& total) {
  const unsigned lane = threadIdx.x % kWarp;
  const unsigned warp = threadIdx.x / kWarp;
  std::uint64_t sum = value;
  for (unsigned apart = 1; apart < kWarp; apart *= 2) {
    const std::uint64_t below = __shfl_up_sync(kAllLanes, sum, apart);
    if (lane >= apart) sum += below;
  }
  if (lane == kWarp - 1) shared.warps[warp] = sum;
  __syncthreads();
  std::uint64_t before = 0;
  total = 0;
  for (unsigned w = 0; w < kBlockThreads / kWarp; ++w) {
    if (w == warp) before = total;
    total += shared.warps[w];
  }
  __syncthreads();  // before the next call writes there
  return before + sum - value;
}

/// By one block: each of n numbers becomes the sum of those before it. Returns the sum of all, to every thread.
__device__ inline std::uint64_t exclusive_sums(std::uint64_t* numbers, std::size_t n, BlockSums& shared) {
  constexpr std::size_t kEach = 8;
  std::uint64_t done = 0;
  for (std::size_t first = 0; first < n; first += kEach * kBlockThreads) {
    const std::size_t own = first + kEach * threadIdx.x;
    std::uint64_t each[kEach];
    std::uint64_t sum = 0;
    for (std::size_t j = 0; j < kEach; ++j) {
      each[j] = own + j < n ? numbers[own + j] : 0;
      sum += each[j];
    }
    std::uint64_t total = 0;
    std::uint64_t before = done + exclusive_sum(sum, shared, total);
    for (std::size_t j = 0; j < kEach; ++j) {
      if (own + j < n) numbers[own + j] = before;
      before += each[j];
    }
    done += total;
  }
  return done;
}

}  // namespace gradwire::device
