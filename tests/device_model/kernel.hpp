#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "cuda_runtime.h"

/// \file What nvcc gives device code by itself, for the model: .cu files are compiled with this in front.

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __grid_constant__ &  // behind the type: parameters of a launch are not copied for each thread
#define __shared__ static thread_local
#define __constant__ static const

struct uint3 {
  unsigned x, y, z;
};
inline constexpr int warpSize = 32;
inline thread_local uint3 threadIdx, blockIdx;
inline thread_local dim3 blockDim, gridDim;

namespace device_model {

/// Blocks until all threads of the block, or the lanes in `mask`, wait here. A barrier that not all of them can reach
/// ends the process with what each was waiting for.
void block_barrier();
void warp_barrier(unsigned mask);
/// Where lanes leave a value for one another between two barriers; 8 bytes each. Ends the process for a lane outside
/// of the mask.
std::uint64_t& warp_slot(unsigned lane, unsigned mask);
unsigned lane_of_this_thread();
int& block_count();

template <class T>
T from_lane(unsigned mask, T value, unsigned lane) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
  std::memcpy(&warp_slot(lane_of_this_thread(), mask), &value, sizeof value);
  warp_barrier(mask);
  std::memcpy(&value, &warp_slot(lane, mask), sizeof value);
  warp_barrier(mask);
  return value;
}

template <class T, class Join>
T over_lanes(unsigned mask, T value, Join join) {
  std::memcpy(&warp_slot(lane_of_this_thread(), mask), &value, sizeof value);
  warp_barrier(mask);
  bool is_first = true;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    T theirs;
    std::memcpy(&theirs, &warp_slot(lane, mask), sizeof theirs);
    value = is_first ? theirs : join(value, theirs);
    is_first = false;
  }
  warp_barrier(mask);
  return value;
}

inline int count_over_block(bool is_true) {
  block_barrier();  // the last count has been read
  if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) block_count() = 0;
  block_barrier();
  block_count() += is_true ? 1 : 0;
  block_barrier();
  return block_count();
}

}  // namespace device_model

inline void __syncthreads() { device_model::block_barrier(); }
inline int __syncthreads_count(int is_true) { return device_model::count_over_block(is_true != 0); }
inline int __syncthreads_or(int is_true) { return device_model::count_over_block(is_true != 0) != 0; }
inline int __syncthreads_and(int is_true) { return device_model::count_over_block(is_true == 0) == 0; }
inline void __syncwarp(unsigned mask = 0xffff'ffff) { device_model::warp_barrier(mask); }
template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
  return device_model::from_lane(mask, value, static_cast<unsigned>(lane) % 32);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  return device_model::from_lane(mask, value, device_model::lane_of_this_thread() ^ static_cast<unsigned>(lanes));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned apart) {
  const unsigned lane = device_model::lane_of_this_thread();
  return device_model::from_lane(mask, value, lane < apart ? lane : lane - apart);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned apart) {
  const unsigned lane = device_model::lane_of_this_thread();
  return device_model::from_lane(mask, value, lane + apart > 31 ? lane : lane + apart);
}
inline unsigned __ballot_sync(unsigned mask, int is_true) {
  const unsigned own = is_true != 0 ? 1u << device_model::lane_of_this_thread() : 0;
  return device_model::over_lanes(mask, own, [](unsigned a, unsigned b) { return a | b; });
}
inline int __any_sync(unsigned mask, int is_true) { return __ballot_sync(mask, is_true) != 0; }
inline int __all_sync(unsigned mask, int is_true) { return __ballot_sync(mask, is_true) == mask; }
inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  return device_model::over_lanes(mask, value, [](unsigned a, unsigned b) { return std::max(a, b); });
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value) {
  return device_model::over_lanes(mask, value, [](unsigned a, unsigned b) { return std::min(a, b); });
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned value) {
  return device_model::over_lanes(mask, value, [](unsigned a, unsigned b) { return a + b; });
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value) {
  return device_model::over_lanes(mask, value, [](unsigned a, unsigned b) { return a | b; });
}
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class T>
T atomicAdd(T* at, T value) {
  const T old = *at;
  *at += value;
  return old;
}
template <class T>
T atomicMin(T* at, T value) {
  const T old = *at;
  *at = std::min(old, value);
  return old;
}
template <class T>
T atomicMax(T* at, T value) {
  const T old = *at;
  *at = std::max(old, value);
  return old;
}
template <class T>
T atomicOr(T* at, T value) {
  const T old = *at;
  *at |= value;
  return old;
}
template <class T>
T atomicExch(T* at, T value) {
  const T old = *at;
  *at = value;
  return old;
}
template <class T>
T atomicCAS(T* at, T expected, T value) {
  const T old = *at;
  if (old == expected) *at = value;
  return old;
}
inline unsigned atomicInc(unsigned* at, unsigned last) {
  const unsigned old = *at;
  *at = old >= last ? 0 : old + 1;
  return old;
}

inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
inline int __ffs(int bits) { return bits == 0 ? 0 : std::countr_zero(static_cast<unsigned>(bits)) + 1; }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
template <class T>
T __ldg(const T* at) {
  return *at;
}
