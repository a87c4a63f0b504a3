#include "base/device.hpp"
#include "compress/device/bucket_norms.cuh"
#include "compress/device/codecs.hpp"
#include "compress/device/launch.cuh"
#include "compress/device/quantize_tile.hpp"
#include "compress/device/trit_tile.hpp"

#include "gradwire/error.hpp"

namespace gradwire::device {
namespace {

constexpr unsigned kMostBuckets = kBlockThreads / 4;  // of a block: the least bucket of whole tiles has 4

/// The frame's first bytes, and levels of `learned`, which come first in the payload: the first block's to do.
__device__ void store_front(const kernels::QuantizeEncode& job, const QuantizeLayout& layout, const FrameStart& start) {
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

/// Where tiles lie within buckets: a thread a tile, the threads of whole buckets in a block, which does as many of the
/// frame's buckets as it has threads for. `values_of(tile)` is asked once for each; norms that are sums read job.x
/// again, out of caches.
template <class ValuesOf>
__device__ void encode_item(const kernels::QuantizeEncode& job, const FrameStart& start, std::size_t item,
                            ValuesOf values_of) {
  __shared__ BucketNorms norms[kBlockThreads];
  __shared__ BucketScale scales[kMostBuckets];
  __shared__ float sums[kMostBuckets][QuantizeLayout::kRow];
  const QuantizeLayout layout{job.params, job.x.count};
  const auto threads = static_cast<unsigned>(tiles_a_bucket(job.params));
  const unsigned buckets = kBlockThreads / threads;  // of a block
  const unsigned local = threadIdx.x / threads;
  const unsigned place = threadIdx.x % threads;
  const std::size_t bucket = item * buckets + local;
  const bool busy = local < buckets && bucket < layout.buckets();
  const QuantizeTile tile = QuantizeTile::at(bucket * threads + place);
  TileValues values;
  if (item == 0) store_front(job, layout, start);
  if (busy) {
    values = values_of(tile);
    norms[threadIdx.x] = tile_norms(layout, tile, values);
    if (needs_sums(job.params.norm)) {
      for (unsigned column = place; column < QuantizeLayout::kRow; column += threads)
        sums[local][column] = column_sum(layout, job.x, bucket, column);
    }
  }
  join_tile_norms(norms, place, threads, busy);
  if (busy && place == 0) scales[local] = settle(job, layout, bucket, norms[threadIdx.x], sums[local]);
  __syncthreads();
  if (busy) pack_tile(job, tile, values, [&](std::size_t) { return scales[local]; });
}

template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    encode_buckets(const Batch<QuantizeEncodeRun, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const QuantizeEncodeRun& frames, std::size_t item) {
    const FrameItem at = frame_item(item, bucket_items({frames.job.params, frames.job.x.count}));
    const kernels::QuantizeEncode job = job_of(frames, at.frame);
    const QuantizeLayout layout{job.params, job.x.count};
    encode_item(job, frames.start, at.item, [&](const QuantizeTile& tile) { return load_tile(layout, job.x, tile); });
  });
}

/// The same of sums, which stay in registers.
template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads) encode_sums(const Batch<QuantizeSum, capacity> __grid_constant__ batch,
                                                             const SumMessages __grid_constant__ messages) {
  for_each_item(batch, [&](const QuantizeSum& sum, std::size_t item) {
    bool are_ours = true;
    for (std::uint32_t m = 0; m < messages.count; ++m)
      are_ours = has_start(messages.payload(m, sum.first), sum.start) && are_ours;
    encode_item(sum.own, sum.start, item, [&](const QuantizeTile& tile) {
      TileValues values = sum_tile(sum, messages, tile);
      if (!are_ours) values.at[0][0] = kNaN;  // and with it the whole bucket
      return values;
    });
  });
}

/// Where tiles do not lie within buckets: a run whose scales are found by one kernel and used by another.
struct ScaledRun {
  QuantizeEncodeRun frames;
  BucketScale* scales;
};

/// A warp a bucket.
template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads) find_scales(const Batch<ScaledRun, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const ScaledRun& run, std::size_t item) {
    const QuantizeLayout layout{run.frames.job.params, run.frames.job.x.count};
    const FrameItem at = frame_item(item, warp_items(layout));
    const kernels::QuantizeEncode job = job_of(run.frames, at.frame);
    if (at.item == 0) store_front(job, layout, run.frames.start);
    const unsigned lane = threadIdx.x % kWarp;
    const std::size_t bucket = thread_of(at.item) / kWarp;
    if (bucket >= layout.buckets()) return;
    const BucketNorms norms = warp_norms(layout, job.x, bucket, lane);
    float sums[QuantizeLayout::kRow];
    warp_column_sums(layout, job.x, bucket, lane, sums);
    if (lane == 0) run.scales[at.frame * layout.buckets() + bucket] = settle(job, layout, bucket, norms, sums);
  });
}

/// A thread a tile, of planes or of trits.
struct Planes {
  [[nodiscard]] GRADWIRE_HD static std::size_t tiles(const QuantizeLayout& layout) {
    return QuantizeTile::count(layout);
  }
  GRADWIRE_HD static void encode(const kernels::QuantizeEncode& job, std::size_t tile, const BucketScale* scales) {
    encode_tile(job, tile, scales);
  }
  GRADWIRE_HD static void decode(const kernels::QuantizeDecode& job, std::size_t tile) { decode_tile(job, tile); }
  GRADWIRE_HD static void spoil(const kernels::QuantizeDecode& job, std::size_t tile) {
    spoil_tile(QuantizeLayout{job.params, job.y.count}, job.y, QuantizeTile::at(tile));
  }
};
struct Trits {
  [[nodiscard]] GRADWIRE_HD static std::size_t tiles(const QuantizeLayout& layout) { return TritTile::count(layout); }
  GRADWIRE_HD static void encode(const kernels::QuantizeEncode& job, std::size_t tile, const BucketScale* scales) {
    encode_trits(job, tile, scales);
  }
  GRADWIRE_HD static void decode(const kernels::QuantizeDecode& job, std::size_t tile) { decode_trits(job, tile); }
  GRADWIRE_HD static void spoil(const kernels::QuantizeDecode& job, std::size_t tile) { spoil_trits(job, tile); }
};

template <class Tiles, std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads) pack_codes(const Batch<ScaledRun, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const ScaledRun& run, std::size_t item) {
    const QuantizeLayout layout{run.frames.job.params, run.frames.job.x.count};
    const std::size_t tiles = Tiles::tiles(layout);
    const FrameItem at = frame_item(item, blocks_of(tiles));
    const std::size_t tile = thread_of(at.item);
    if (tile < tiles) Tiles::encode(job_of(run.frames, at.frame), tile, run.scales + at.frame * layout.buckets());
  });
}

template <class Tiles, std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    unpack_codes(const Batch<QuantizeDecodeRun, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const QuantizeDecodeRun& frames, std::size_t item) {
    const std::size_t tiles = Tiles::tiles({frames.job.params, frames.job.y.count});
    const FrameItem at = frame_item(item, blocks_of(tiles));
    const kernels::QuantizeDecode job = job_of(frames, at.frame);
    const bool is_ours = has_start(job.payload, frames.start);
    const std::size_t tile = thread_of(at.item);
    if (tile >= tiles) return;
    if (is_ours) {
      Tiles::decode(job, tile);
    } else {
      Tiles::spoil(job, tile);
    }
  });
}

[[nodiscard]] QuantizeLayout layout_of(const QuantizeEncodeRun& frames) {
  return {frames.job.params, frames.job.x.count};
}

template <class Tiles>
void encode_in_two(const JobList<QuantizeEncodeRun>& jobs, StreamRef stream) {
  std::size_t buckets = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const QuantizeEncodeRun frames = jobs[i];
    buckets += frames.run.frames * layout_of(frames).buckets();
  }
  const Scratch scratch(buckets * sizeof(BucketScale), stream);
  const auto scaled = [&](std::size_t& first, const QuantizeEncodeRun& frames) {
    BucketScale* const scales = reinterpret_cast<BucketScale*>(scratch.data()) + first;
    first += frames.run.frames * layout_of(frames).buckets();
    return ScaledRun{frames, scales};
  };
  std::size_t found = 0;
  std::size_t packed = 0;
  launch_in_turn(
      {"find_scales", stream}, jobs.size(), [&](std::size_t i) { return scaled(found, jobs[i]); },
      [](const ScaledRun& job) { return job.frames.run.frames * warp_items(layout_of(job.frames)); },
      [](auto capacity) { return find_scales<capacity()>; });
  launch_in_turn(
      {"pack_codes", stream}, jobs.size(), [&](std::size_t i) { return scaled(packed, jobs[i]); },
      [](const ScaledRun& job) { return job.frames.run.frames * blocks_of(Tiles::tiles(layout_of(job.frames))); },
      [](auto capacity) { return pack_codes<Tiles, capacity()>; });
}

template <class Tiles>
void decode_tiles(const JobList<QuantizeDecodeRun>& jobs, StreamRef stream) {
  launch_jobs(
      {"unpack_codes", stream}, jobs,
      [](const QuantizeDecodeRun& frames) {
        return frames.run.frames * blocks_of(Tiles::tiles({frames.job.params, frames.job.y.count}));
      },
      [](auto capacity) { return unpack_codes<Tiles, capacity()>; });
}

}  // namespace

void quantize_encode(const JobList<QuantizeEncodeRun>& jobs, StreamRef stream) {
  if (jobs.size() == 0) return;
  const QuantizeParams params = jobs[0].job.params;
  if (params.packing == Packing::trits) return encode_in_two<Trits>(jobs, stream);
  if (!has_whole_tiles(params)) return encode_in_two<Planes>(jobs, stream);
  launch_jobs(
      {"encode_buckets", stream}, jobs,
      [](const QuantizeEncodeRun& frames) { return frames.run.frames * bucket_items(layout_of(frames)); },
      [](auto capacity) { return encode_buckets<capacity()>; });
}

void quantize_sum(const JobList<QuantizeSum>& jobs, const SumMessages& messages, StreamRef stream) {
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const QuantizeSum sum = jobs[i];
    if (!can_quantize_sum(sum.own.params) || sum.own.x.dtype != DType::f32)
      throw Error(
          Errc::unsupported,
          "sums are encoded in one kernel for buckets of 128 elements and multiples, norms linf and minmax, f32");
  }
  launch_jobs(
      {"encode_sums", stream}, jobs,
      [](const QuantizeSum& sum) {
        return bucket_items({sum.own.params, sum.own.x.count});
      },
      [](auto capacity) { return encode_sums<capacity()>; }, messages);
}

void quantize_decode(const JobList<QuantizeDecodeRun>& jobs, StreamRef stream) {
  if (jobs.size() == 0) return;
  if (jobs[0].job.params.packing == Packing::trits) return decode_tiles<Trits>(jobs, stream);
  decode_tiles<Planes>(jobs, stream);
}

}  // namespace gradwire::device
