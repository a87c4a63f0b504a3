#include "compress/device/grid.hpp"
#include "compress/device/quantize.cuh"
#include "compress/device/quantize_tile.hpp"

#include "gradwire/error.hpp"

namespace gradwire::device {
namespace {

constexpr unsigned kAllLanes = 0xffff'ffff;
constexpr unsigned kWarp = kBucketLanes;

[[nodiscard]] __device__ std::size_t thread_index() { return std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; }
[[nodiscard]] __device__ std::size_t thread_count() { return std::size_t{gridDim.x} * blockDim.x; }

/// A warp a bucket.
__global__ void __launch_bounds__(kBlockThreads)
    find_scales(const kernels::QuantizeEncode job, BucketScale* scales, std::uint32_t* first_bad) {
  const QuantizeLayout layout{job.params, job.x.count};
  const unsigned lane = threadIdx.x % kWarp;
  if (job.codebook != nullptr && blockIdx.x == 0 && threadIdx.x < layout.scale_offset() / sizeof(float))
    store_word(job.payload + threadIdx.x * sizeof(float), std::bit_cast<std::uint32_t>(job.codebook[threadIdx.x]));
  for (std::size_t bucket = thread_index() / kWarp; bucket < layout.buckets(); bucket += thread_count() / kWarp) {
    BucketNorms norms = lane_norms(layout, job.x, bucket, lane);
    float sums[kSumLanes];
    for (unsigned k = 0; k < kSumLanes; ++k) sums[k] = __shfl_sync(kAllLanes, norms.sum, static_cast<int>(k));
    for (int apart = kWarp / 2; apart != 0; apart /= 2) {
      norms.join({__shfl_xor_sync(kAllLanes, norms.most_bits, apart), __shfl_xor_sync(kAllLanes, norms.min, apart),
                  __shfl_xor_sync(kAllLanes, norms.max, apart), 0});
    }
    if (lane == 0) {
      BucketScale scale;
      if (!find_scale(job.params, norms, sums, bucket_size(layout, bucket), scale))
        atomicMin(first_bad, static_cast<std::uint32_t>(bucket));
      scales[bucket] = scale;
      store_scale(layout, bucket, scale, job.payload);
    }
    __syncwarp();
  }
}

/// A thread a tile.
__global__ void __launch_bounds__(kBlockThreads)
    pack_codes(const kernels::QuantizeEncode job, const BucketScale* scales, std::size_t tiles) {
  for (std::size_t tile = thread_index(); tile < tiles; tile += thread_count()) encode_tile(job, tile, scales);
}

__global__ void __launch_bounds__(kBlockThreads) unpack_codes(const kernels::QuantizeDecode job, std::size_t tiles) {
  for (std::size_t tile = thread_index(); tile < tiles; tile += thread_count()) decode_tile(job, tile);
}

void require_planes(const QuantizeParams& params) {
  if (params.packing != Packing::planes)
    throw Error(Errc::unsupported, "codes packed as trits are not for device memory");
}

}  // namespace

std::size_t quantize_scratch_bytes(const QuantizeParams& params, std::size_t count) noexcept {
  return QuantizeLayout{params, count}.buckets() * sizeof(BucketScale);
}

void quantize_encode(const kernels::QuantizeEncode& job, std::byte* scratch, std::uint32_t* first_bad,
                     cudaStream_t stream) {
  require_planes(job.params);
  const QuantizeLayout layout{job.params, job.x.count};
  auto* const scales = reinterpret_cast<BucketScale*>(scratch);
  find_scales<<<blocks_for(layout.buckets() * kWarp), kBlockThreads, 0, stream>>>(job, scales, first_bad);
  cuda::check(cudaGetLastError(), "launch of find_scales");
  const std::size_t tiles = QuantizeTile::count(layout);
  pack_codes<<<blocks_for(tiles), kBlockThreads, 0, stream>>>(job, scales, tiles);
  cuda::check(cudaGetLastError(), "launch of pack_codes");
}

void quantize_decode(const kernels::QuantizeDecode& job, cudaStream_t stream) {
  require_planes(job.params);
  const std::size_t tiles = QuantizeTile::count({job.params, job.y.count});
  unpack_codes<<<blocks_for(tiles), kBlockThreads, 0, stream>>>(job, tiles);
  cuda::check(cudaGetLastError(), "launch of unpack_codes");
}

}  // namespace gradwire::device
