#include "base/device.hpp"
#include "compress/device/bucket_norms.cuh"
#include "compress/device/launch.cuh"
#include "compress/device/scan.cuh"
#include "compress/device/statistics_tile.hpp"

namespace gradwire::device {
namespace {

/// By one block, in an order that does not depend on the grid: thread 0 gets what all have, others parts of it.
template <class T, class Join>
__device__ T join_block(T own, T* shared, Join join_into) {
  shared[threadIdx.x] = own;
  __syncthreads();
  for (unsigned apart = kBlockThreads / 2; apart != 0; apart /= 2) {
    if (threadIdx.x < apart) join_into(shared[threadIdx.x], shared[threadIdx.x + apart]);
    __syncthreads();
  }
  return shared[threadIdx.x];
}

__device__ void add(double& sum, const double& other) { sum += other; }

__global__ void __launch_bounds__(kBlockThreads)
    find_tile_norms(const ConstTensor x, float scale, Norms* found, std::size_t tiles) {
  __shared__ Norms shared[kBlockThreads];
  for (std::size_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const Norms all = join_block(thread_norms(x, scale, tile, threadIdx.x), shared, join);
    if (threadIdx.x == 0) found[tile] = all;
  }
}

__global__ void __launch_bounds__(kBlockThreads) join_norms(const Norms* found, std::size_t n, Norms* out) {
  __shared__ Norms shared[kBlockThreads];
  Norms own{};
  for (std::size_t i = threadIdx.x; i < n; i += kBlockThreads) join(own, found[i]);
  const Norms all = join_block(own, shared, join);
  if (threadIdx.x == 0) *out = all;
}

/// The buckets of a group: `squares` of each number of bits are the lane's own.
__device__ void add_group(const QuantizeLosses& job, std::size_t group, unsigned lane, double* squares) {
  QuantizeLayout layout{job.params, job.x.count};
  const std::size_t each = loss_buckets(job.params);
  for (std::size_t bucket = group * each; bucket < (group + 1) * each && bucket < layout.buckets(); ++bucket) {
    const BucketNorms norms = warp_norms(layout, job.x, bucket, lane);
    float sums[QuantizeLayout::kRow];
    warp_column_sums(layout, job.x, bucket, lane, sums);
    for (std::uint32_t w = 0; w < job.widths; ++w) {
      layout.params.bits = job.bits[w];
      BucketScale scale;
      const bool found = find_scale(layout.params, norms, sums, bucket_size(layout, bucket), scale);
      squares[w] += found ? lane_loss(layout, job.x, bucket, lane, scale) : double{kNaN};
    }
  }
}

/// `found`: of each number of bits, all groups'.
__global__ void __launch_bounds__(kBlockThreads)
    find_group_losses(const QuantizeLosses job, double* found, std::size_t groups) {
  const unsigned lane = threadIdx.x % kWarp;
  for (std::size_t group = thread_index() / kWarp; group < groups; group += thread_count() / kWarp) {
    double squares[QuantizeLosses::kMostWidths] = {};
    add_group(job, group, lane, squares);
    for (std::uint32_t w = 0; w < job.widths; ++w) {
      double sum = squares[w];
      for (int apart = kWarp / 2; apart != 0; apart /= 2) sum += __shfl_xor_sync(kAllLanes, sum, apart);
      if (lane == 0) found[w * groups + group] = sum;
    }
  }
}

/// Rows of n numbers: each row's sum.
__global__ void __launch_bounds__(kBlockThreads)
    add_rows(const double* numbers, std::size_t n, std::size_t rows, double* out) {
  __shared__ double shared[kBlockThreads];
  for (std::size_t row = blockIdx.x; row < rows; row += gridDim.x) {
    double own = 0;
    for (std::size_t i = threadIdx.x; i < n; i += kBlockThreads) own += numbers[row * n + i];
    const double all = join_block(own, shared, add);
    if (threadIdx.x == 0) out[row] = all;
  }
}

/// Zeros are left out: they have no squares, and may be many.
__global__ void __launch_bounds__(kBlockThreads)
    count_magnitudes(const ConstTensor x, MagnitudeBin* bins, std::size_t parts) {
  for (std::size_t part = thread_index(); part < parts; part += thread_count()) {
    float values[kRowPart] = {};
    load_row(x.data, x.dtype, part * kRowPart, there_from(x.count, part * kRowPart), values);
    for (std::size_t c = 0; c < kRowPart; ++c) {
      const std::uint32_t magnitude = magnitude_bits(values[c]);
      if (magnitude == 0) continue;
      MagnitudeBin& bin = bins[magnitude >> kBinShift];
      atomicAdd(reinterpret_cast<unsigned long long*>(&bin.count), 1ull);
      atomicAdd(reinterpret_cast<unsigned long long*>(&bin.squares),
                static_cast<unsigned long long>(binned_square(magnitude)));
    }
  }
}

/// A block for each number of elements, a thread for kLossBins bins, from the highest on.
__global__ void __launch_bounds__(kBlockThreads) find_bins_losses(const SelectionLosses job, const MagnitudeBin* bins) {
  __shared__ BlockSums sums;
  __shared__ double shared[kBlockThreads];
  const std::size_t first = kMagnitudeBins - 1 - threadIdx.x * kLossBins;
  std::uint64_t own = 0;
  for (std::size_t b = 0; b < kLossBins; ++b) own += bins[first - b].count;
  std::uint64_t total = 0;
  const std::uint64_t above = exclusive_sum(own, sums, total);
  for (std::size_t row = blockIdx.x; row < job.counts; row += gridDim.x) {
    const double all = join_block(lost_in_bins(bins, first, kLossBins, above, job.kept[row]), shared, add);
    if (threadIdx.x == 0) job.squares[row] = all;
  }
}

}  // namespace

void find_norms(ConstTensor x, float scale, Norms* out, StreamRef stream) {
  const std::size_t tiles = norm_tiles(x.count);
  const std::size_t threads = tiles * kBlockThreads;
  if (tiles == 1) return launch("find_tile_norms", find_tile_norms, threads, stream, x, scale, out, tiles);
  const Scratch scratch(tiles * sizeof(Norms), stream);
  auto* const found = reinterpret_cast<Norms*>(scratch.data());
  launch("find_tile_norms", find_tile_norms, threads, stream, x, scale, found, tiles);
  launch("join_norms", join_norms, kBlockThreads, stream, found, tiles, out);
}

void find_quantize_losses(const QuantizeLosses& job, StreamRef stream) {
  const std::size_t groups = loss_groups({job.params, job.x.count});
  const Scratch scratch(job.widths * groups * sizeof(double), stream);
  auto* const found = reinterpret_cast<double*>(scratch.data());
  launch("find_group_losses", find_group_losses, groups * kWarp, stream, job, found, groups);
  launch("add_rows", add_rows, job.widths * kBlockThreads, stream, found, groups, job.widths, job.squares);
}

void find_selection_losses(const SelectionLosses& job, StreamRef stream) {
  constexpr std::size_t kBytes = kMagnitudeBins * sizeof(MagnitudeBin);
  const Scratch scratch(kBytes, stream);
  auto* const bins = reinterpret_cast<MagnitudeBin*>(scratch.data());
  zero(bins, kBytes, stream);
  const std::size_t parts = row_parts(job.x.count);
  launch("count_magnitudes", count_magnitudes, parts, stream, job.x, bins, parts);
  launch("find_bins_losses", find_bins_losses, job.counts * kBlockThreads, stream, job, bins);
}

}  // namespace gradwire::device
