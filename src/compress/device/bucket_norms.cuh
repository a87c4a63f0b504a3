#pragma once
#include "compress/device/launch.cuh"
#include "compress/device/quantize_scale.hpp"

/// \file What find_scale() needs of a bucket, gathered from the threads that have seen parts of it.
namespace gradwire::device {

static_assert(kBucketLanes == kWarp);

/// Of one bucket, by a warp: to all of its lanes.
[[nodiscard]] __device__ inline BucketNorms warp_norms(const QuantizeLayout& layout, const ConstTensor& x,
                                                       std::size_t bucket, unsigned lane) {
  BucketNorms norms = lane_norms(layout, x, bucket, lane);
  for (int apart = kWarp / 2; apart != 0; apart /= 2) {
    norms.join({__shfl_xor_sync(kAllLanes, norms.most_bits, apart), __shfl_xor_sync(kAllLanes, norms.min, apart),
                __shfl_xor_sync(kAllLanes, norms.max, apart)});
  }
  return norms;
}

/// The bucket's sums of all columns, by a warp: to all of its lanes. Zeros where its norm needs none.
__device__ inline void warp_column_sums(const QuantizeLayout& layout, const ConstTensor& x, std::size_t bucket,
                                        unsigned lane, float (&sums)[QuantizeLayout::kRow]) {
  const bool has_column = needs_sums(layout.params.norm) && lane < QuantizeLayout::kRow;
  const float column = has_column ? column_sum(layout, x, bucket, lane) : 0;
  for (unsigned k = 0; k < QuantizeLayout::kRow; ++k) sums[k] = __shfl_sync(kAllLanes, column, static_cast<int>(k));
}

/// By a block, whose threads have seen a tile each, where `busy`, `threads` of them a bucket: joins the `norms` of all
/// tiles of a bucket in those of its first thread, `place` 0.
__device__ inline void join_tile_norms(BucketNorms* norms, unsigned place, unsigned threads, bool busy) {
  __syncthreads();
  for (unsigned apart = 1; apart < threads; apart *= 2) {
    if (busy && place % (2 * apart) == 0 && place + apart < threads)
      norms[threadIdx.x].join(norms[threadIdx.x + apart]);
    __syncthreads();
  }
}

}  // namespace gradwire::device
