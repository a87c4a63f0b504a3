#include "base/device.hpp"
#include "compress/device/codecs.hpp"
#include "compress/device/launch.cuh"
#include "compress/device/quantize_tile.hpp"
#include "compress/device/trit_tile.hpp"

#include "gradwire/error.hpp"

namespace gradwire::device {
namespace {

static_assert(kBucketLanes == kWarp);
constexpr unsigned kMostBuckets = kBlockThreads / 4;  // of a block: the least bucket of whole tiles has 4

/// The frame's first bytes, and levels of `learned`, which come first in the payload.
__device__ void store_front(const kernels::QuantizeEncode& job, const QuantizeLayout& layout, const FrameStart& start) {
  if (blockIdx.x != 0) return;
  if (threadIdx.x == 0) store_start(job.payload, start);
  if (job.codebook == nullptr || threadIdx.x >= layout.scale_offset() / sizeof(float)) return;
  store_word(job.payload + threadIdx.x * sizeof(float), std::bit_cast<std::uint32_t>(job.codebook[threadIdx.x]));
}

__device__ BucketScale settle(const kernels::QuantizeEncode& job, const QuantizeLayout& layout, std::size_t bucket,
                              const BucketNorms& norms, const float* sums) {
  BucketScale scale;
  if (!find_scale(job.params, norms, sums, bucket_size(layout, bucket), scale)) scale = kNoScale;
  store_scale(layout, bucket, scale, job.payload);
  return scale;
}

/// The job of one of a run's frames, as a row of blocks does it.
[[nodiscard]] __device__ kernels::QuantizeEncode job_of(kernels::QuantizeEncode job, const FrameRun& run,
                                                        std::size_t frame) {
  job.x.data = static_cast<const std::byte*>(job.x.data) + frame * run.elements * size_of(job.x.dtype);
  job.payload += frame * run.bytes;
  if (job.residual != nullptr) job.residual += frame * run.elements;
  job.key.first_element += frame * run.elements;
  return job;
}
[[nodiscard]] __device__ kernels::QuantizeDecode job_of(kernels::QuantizeDecode job, const FrameRun& run,
                                                        std::size_t frame) {
  job.payload += frame * run.bytes;
  job.y.data = static_cast<std::byte*>(job.y.data) + frame * run.elements * size_of(job.y.dtype);
  return job;
}

/// Where tiles lie within buckets: a thread a tile, the threads of whole buckets in a block. `values_of(tile)` is asked
/// once for each; norms that are sums read job.x again, out of caches.
template <class ValuesOf>
__device__ void encode_frame(const kernels::QuantizeEncode& job, const FrameStart& start, ValuesOf values_of) {
  __shared__ BucketNorms norms[kBlockThreads];
  __shared__ BucketScale scales[kMostBuckets];
  __shared__ float sums[kMostBuckets][QuantizeLayout::kRow];
  const QuantizeLayout layout{job.params, job.x.count};
  const auto threads = static_cast<unsigned>(tiles_a_bucket(job.params));
  const unsigned buckets = kBlockThreads / threads;  // of a block
  const unsigned local = threadIdx.x / threads;
  const unsigned place = threadIdx.x % threads;
  store_front(job, layout, start);
  for (std::size_t first = std::size_t{blockIdx.x} * buckets; first < layout.buckets();
       first += std::size_t{gridDim.x} * buckets) {
    const std::size_t bucket = first + local;
    const bool busy = local < buckets && bucket < layout.buckets();
    const QuantizeTile tile = QuantizeTile::at(bucket * threads + place);
    TileValues values;
    if (busy) {
      values = values_of(tile);
      norms[threadIdx.x] = tile_norms(layout, tile, values);
      if (needs_sums(job.params.norm)) {
        for (unsigned column = place; column < QuantizeLayout::kRow; column += threads)
          sums[local][column] = column_sum(layout, job.x, bucket, column);
      }
    }
    __syncthreads();
    for (unsigned apart = 1; apart < threads; apart *= 2) {
      if (busy && place % (2 * apart) == 0 && place + apart < threads)
        norms[threadIdx.x].join(norms[threadIdx.x + apart]);
      __syncthreads();
    }
    if (busy && place == 0) scales[local] = settle(job, layout, bucket, norms[threadIdx.x], sums[local]);
    __syncthreads();
    if (busy) pack_tile(job, tile, values, [&](std::size_t) { return scales[local]; });
  }
}

__global__ void __launch_bounds__(kBlockThreads)
    encode_buckets(const kernels::QuantizeEncode job, const FrameStart start, const FrameRun run) {
  for (std::size_t frame = blockIdx.y; frame < run.frames; frame += gridDim.y) {
    const kernels::QuantizeEncode own = job_of(job, run, frame);
    const QuantizeLayout layout{own.params, own.x.count};
    encode_frame(own, start, [&](const QuantizeTile& tile) { return load_tile(layout, own.x, tile); });
  }
}

/// The same of sums, which stay in registers.
__global__ void __launch_bounds__(kBlockThreads) encode_sums(const QuantizeSum sum, const FrameStart start) {
  bool are_ours = true;
  for (std::uint32_t p = 0; p < sum.count; ++p) are_ours = has_start(sum.payloads[p], start) && are_ours;
  encode_frame(sum.own, start, [&](const QuantizeTile& tile) {
    TileValues values = sum_tile(sum, tile);
    if (!are_ours) values.at[0][0] = kNaN;  // and with it the whole bucket
    return values;
  });
}

__device__ void find_frame_scales(const kernels::QuantizeEncode& job, BucketScale* scales, const FrameStart& start) {
  const QuantizeLayout layout{job.params, job.x.count};
  const unsigned lane = threadIdx.x % kWarp;
  store_front(job, layout, start);
  for (std::size_t bucket = thread_index() / kWarp; bucket < layout.buckets(); bucket += thread_count() / kWarp) {
    BucketNorms norms = lane_norms(layout, job.x, bucket, lane);
    const bool sums_columns = needs_sums(job.params.norm) && lane < QuantizeLayout::kRow;
    const float column = sums_columns ? column_sum(layout, job.x, bucket, lane) : 0;
    float sums[QuantizeLayout::kRow];
    for (unsigned k = 0; k < QuantizeLayout::kRow; ++k) sums[k] = __shfl_sync(kAllLanes, column, static_cast<int>(k));
    for (int apart = kWarp / 2; apart != 0; apart /= 2) {
      norms.join({__shfl_xor_sync(kAllLanes, norms.most_bits, apart), __shfl_xor_sync(kAllLanes, norms.min, apart),
                  __shfl_xor_sync(kAllLanes, norms.max, apart)});
    }
    if (lane == 0) scales[bucket] = settle(job, layout, bucket, norms, sums);
    __syncwarp();
  }
}

/// Where they do not, in two kernels: a warp a bucket.
__global__ void __launch_bounds__(kBlockThreads)
    find_scales(const kernels::QuantizeEncode job, BucketScale* scales, const FrameStart start, const FrameRun run) {
  const std::size_t buckets = QuantizeLayout{job.params, job.x.count}.buckets();
  for (std::size_t frame = blockIdx.y; frame < run.frames; frame += gridDim.y)
    find_frame_scales(job_of(job, run, frame), scales + frame * buckets, start);
}

/// A thread a tile.
__global__ void __launch_bounds__(kBlockThreads)
    pack_codes(const kernels::QuantizeEncode job, const BucketScale* scales, std::size_t tiles, const FrameRun run) {
  const std::size_t buckets = QuantizeLayout{job.params, job.x.count}.buckets();
  for (std::size_t frame = blockIdx.y; frame < run.frames; frame += gridDim.y) {
    const kernels::QuantizeEncode own = job_of(job, run, frame);
    for (std::size_t tile = thread_index(); tile < tiles; tile += thread_count())
      encode_tile(own, tile, scales + frame * buckets);
  }
}

/// A thread a tile of trits, without runs.
__global__ void __launch_bounds__(kBlockThreads)
    pack_trits(const kernels::QuantizeEncode job, const BucketScale* scales, std::size_t tiles) {
  for (std::size_t tile = thread_index(); tile < tiles; tile += thread_count()) encode_trits(job, tile, scales);
}

__global__ void __launch_bounds__(kBlockThreads)
    unpack_trits(const kernels::QuantizeDecode job, const FrameStart expected, std::size_t tiles) {
  const bool is_ours = has_start(job.payload, expected);
  for (std::size_t tile = thread_index(); tile < tiles; tile += thread_count()) {
    if (is_ours) {
      decode_trits(job, tile);
    } else {
      spoil_trits(job, tile);
    }
  }
}

__device__ void decode_frame(const kernels::QuantizeDecode& job, const FrameStart& expected, std::size_t tiles) {
  const bool is_ours = has_start(job.payload, expected);
  for (std::size_t tile = thread_index(); tile < tiles; tile += thread_count()) {
    if (is_ours) {
      decode_tile(job, tile);
    } else {
      spoil_tile(QuantizeLayout{job.params, job.y.count}, job.y, QuantizeTile::at(tile));
    }
  }
}

__global__ void __launch_bounds__(kBlockThreads)
    unpack_codes(const kernels::QuantizeDecode job, const FrameStart expected, std::size_t tiles, const FrameRun run) {
  for (std::size_t frame = blockIdx.y; frame < run.frames; frame += gridDim.y)
    decode_frame(job_of(job, run, frame), expected, tiles);
}

/// Of whole tiles.
std::size_t tile_threads(const kernels::QuantizeEncode& job) {
  return QuantizeLayout{job.params, job.x.count}.buckets() * tiles_a_bucket(job.params);
}

}  // namespace

void quantize_encode(const kernels::QuantizeEncode& job, const FrameStart& start, const FrameRun& run,
                     StreamRef stream) {
  const bool trits = job.params.packing == Packing::trits;
  if (trits && run.frames != 1) throw Error(Errc::unsupported, "codes packed as trits are encoded a frame at a time");
  if (has_whole_tiles(job.params) && !trits)
    return launch_rows("encode_buckets", encode_buckets, tile_threads(job), run.frames, stream, job, start, run);
  const QuantizeLayout layout{job.params, job.x.count};
  const Scratch scratch(run.frames * layout.buckets() * sizeof(BucketScale), stream);
  auto* const scales = reinterpret_cast<BucketScale*>(scratch.data());
  launch_rows("find_scales", find_scales, layout.buckets() * kWarp, run.frames, stream, job, scales, start, run);
  if (trits) {
    const std::size_t tiles = TritTile::count(layout);
    return launch("pack_trits", pack_trits, tiles, stream, job, scales, tiles);
  }
  const std::size_t tiles = QuantizeTile::count(layout);
  launch_rows("pack_codes", pack_codes, tiles, run.frames, stream, job, scales, tiles, run);
}

void quantize_encode(const kernels::QuantizeEncode& job, const FrameStart& start, StreamRef stream) {
  quantize_encode(job, start, {}, stream);
}

void quantize_sum(const QuantizeSum& sum, const FrameStart& start, StreamRef stream) {
  if (!can_quantize_sum(sum.own.params) || sum.own.x.dtype != DType::f32)
    throw Error(Errc::unsupported,
                "sums are encoded in one kernel for buckets of 128 elements and multiples, norms linf and minmax, f32");
  launch("encode_sums", encode_sums, tile_threads(sum.own), stream, sum, start);
}

void quantize_decode(const kernels::QuantizeDecode& job, const FrameStart& expected, const FrameRun& run,
                     StreamRef stream) {
  const QuantizeLayout layout{job.params, job.y.count};
  if (job.params.packing == Packing::trits) {
    if (run.frames != 1) throw Error(Errc::unsupported, "codes packed as trits are decoded a frame at a time");
    const std::size_t tiles = TritTile::count(layout);
    return launch("unpack_trits", unpack_trits, tiles, stream, job, expected, tiles);
  }
  const std::size_t tiles = QuantizeTile::count(layout);
  launch_rows("unpack_codes", unpack_codes, tiles, run.frames, stream, job, expected, tiles, run);
}

void quantize_decode(const kernels::QuantizeDecode& job, const FrameStart& expected, StreamRef stream) {
  quantize_decode(job, expected, {}, stream);
}

}  // namespace gradwire::device
