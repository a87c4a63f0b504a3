#include "base/device.hpp"
#include "compress/device/codecs.hpp"
#include "compress/device/launch.cuh"
#include "compress/device/minifloat_tile.hpp"

namespace gradwire::device {
namespace {

constexpr unsigned kAcross = PlaneTile::kAcross;
constexpr unsigned kMostBlocksOfOne = kBlockThreads / kAcross;  // frame's blocks of a thread block

/// Over the four lanes whose tiles are beside one another.
__device__ std::uint32_t join_across(std::uint32_t most) {
  for (int apart = 1; apart != static_cast<int>(kAcross); apart *= 2) {
    const std::uint32_t other = __shfl_xor_sync(kAllLanes, most, apart);
    most = other > most ? other : most;
  }
  return most;
}
__device__ RowsMost join_across(const RowsMost& most) {
  RowsMost joined;
  GRADWIRE_UNROLL
  for (std::size_t row = 0; row < PlaneTile::kRows; ++row) joined.row[row] = join_across(most.row[row]);
  return joined;
}

using EncodeFrame = Framed<kernels::MinifloatEncode>;
using DecodeFrame = Framed<kernels::MinifloatDecode>;

__device__ void store_start_once(const EncodeFrame& frame, std::size_t item) {
  if (thread_of(item) == 0) store_start(frame.job.payload, frame.start);
}

/// The first thread of this one's warp, as thread_of() numbers them.
[[nodiscard]] __device__ std::size_t warp_of(std::size_t item) { return thread_of(item) - threadIdx.x % kWarp; }

/// mx: a thread a tile, scales among four of them. All lanes of a warp stay together; what lies behind the frame has no
/// elements.
template <class Kind, std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads) encode_mx(const Batch<EncodeFrame, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const EncodeFrame& frame, std::size_t item) {
    const kernels::MinifloatEncode& job = frame.job;
    const MinifloatLayout layout = Kind::layout(job.params, job.x.count);
    store_start_once(frame, item);
    if (warp_of(item) >= PlaneTile::count(layout)) return;
    const PlaneTile tile = PlaneTile::at(thread_of(item));
    const TileValues values = load_tile(layout, job.x, tile);
    const RowsMost most = join_across(rows_most(layout, tile, values));
    pack_tile(job, layout, Kind::shape(), tile, values, settle_mx(layout, Kind::shape(), tile, most, job.payload));
  });
}

/// The units of a tile's rows, from those of their blocks or spans; all lanes of a warp call this.
template <class Kind, class UnitOf>
__device__ RowUnits row_units(const MinifloatLayout& layout, const PlaneTile& tile, const RowsMost& own, UnitOf unit_of,
                              bool is_busy, std::byte* payload) {
  RowUnits units{};
  if constexpr (Kind::kScale == MinifloatScale::nvfp4) {
    const RowsMost most = join_across(own);
    if (is_busy) units = settle_groups(layout, tile, most, unit_of, payload);
  } else if (is_busy) {
    GRADWIRE_UNROLL
    for (std::size_t row = 0; row < PlaneTile::kRows; ++row) units.row[row] = unit_of(row);
  }
  return units;
}

/// Threads of one of the frame's blocks, where it is whole tiles.
[[nodiscard]] constexpr unsigned threads_of_block(const MinifloatParams& params) noexcept {
  return params.block / static_cast<unsigned>(PlaneTile::kRows * PlaneTile::kColumns);
}
/// Thread blocks of a frame, each with the tiles of whole blocks of it.
[[nodiscard]] constexpr std::size_t block_items(const MinifloatLayout& layout) noexcept {
  const std::size_t together = kBlockThreads / threads_of_block(layout.params);
  return layout.count == 0 ? 1 : (layout.blocks() + together - 1) / together;
}

/// f8 and nvfp4 where tiles lie within the frame's blocks: a thread a tile, the threads of whole blocks in a thread
/// block, and x is read once.
template <class Kind, std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    encode_blocks(const Batch<EncodeFrame, capacity> __grid_constant__ batch) {
  __shared__ unsigned mosts[kMostBlocksOfOne];
  for_each_item(batch, [](const EncodeFrame& frame, std::size_t item) {
    const kernels::MinifloatEncode& job = frame.job;
    const MinifloatLayout layout = Kind::layout(job.params, job.x.count);
    const unsigned threads = threads_of_block(layout.params);
    const unsigned blocks = kBlockThreads / threads;  // of this thread block
    const unsigned local = threadIdx.x / threads;
    const unsigned place = threadIdx.x % threads;
    store_start_once(frame, item);
    const std::size_t block = item * blocks + local;
    const bool is_busy = local < blocks && block < layout.blocks();
    const PlaneTile tile = PlaneTile::at(block * threads + place);
    TileValues values;
    RowsMost own{};
    if (threadIdx.x < blocks) mosts[threadIdx.x] = 0;
    __syncthreads();
    if (is_busy) {
      values = load_tile(layout, job.x, tile);
      own = rows_most(layout, tile, values);
    }
    const std::uint32_t most = join_across(own.all());
    if (is_busy && place % kAcross == 0) atomicMax(&mosts[local], most);
    __syncthreads();
    const MinifloatUnit unit = is_busy ? unit_from_most(layout.params, mosts[local]) : MinifloatUnit{};
    if (is_busy && place == 0) store_unit(layout, block, unit, job.payload);
    const RowUnits units = row_units<Kind>(
        layout, tile, own, [&](std::size_t) { return unit; }, is_busy, job.payload);
    if (is_busy) pack_tile(job, layout, Kind::shape(), tile, values, units);
    __syncthreads();  // the next item's magnitudes
  });
}

/// And where they do not, in two kernels: a frame whose units are found by one and used by another.
struct ScaledFrame {
  EncodeFrame frame;
  MinifloatUnit* units;
};

/// A warp a block.
template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    find_units(const Batch<ScaledFrame, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const ScaledFrame& scaled, std::size_t item) {
    const kernels::MinifloatEncode& job = scaled.frame.job;
    const MinifloatLayout layout{job.params, job.x.count};
    const unsigned lane = threadIdx.x % kWarp;
    store_start_once(scaled.frame, item);
    const std::size_t block = thread_of(item) / kWarp;
    if (block >= layout.blocks()) return;
    const std::size_t first = block * layout.params.block;
    const std::size_t left = layout.count - first;
    const std::size_t size = left < layout.params.block ? left : layout.params.block;
    std::uint32_t most = 0;
    for (std::size_t i = lane; i < size; i += kWarp) {
      const std::uint32_t bits = magnitude_bits(load_element(job.x.data, job.x.dtype, first + i));
      most = bits > most ? bits : most;
    }
    most = __reduce_max_sync(kAllLanes, most);
    if (lane != 0) return;
    scaled.units[block] = unit_from_most(layout.params, most);
    store_unit(layout, block, scaled.units[block], job.payload);
  });
}

/// A thread a tile; lanes of a warp stay together, for nvfp4's groups.
template <class Kind, std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    pack_blocks(const Batch<ScaledFrame, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const ScaledFrame& scaled, std::size_t item) {
    const kernels::MinifloatEncode& job = scaled.frame.job;
    const MinifloatLayout layout = Kind::layout(job.params, job.x.count);
    if (warp_of(item) >= PlaneTile::count(layout)) return;
    const PlaneTile tile = PlaneTile::at(thread_of(item));
    const TileValues values = load_tile(layout, job.x, tile);
    const auto unit_of = [&](std::size_t row) {
      if (tile.first_row + row >= layout.rows()) return MinifloatUnit{};
      return scaled.units[static_cast<std::uint32_t>(tile.element(row, 0)) / layout.params.block];
    };
    const bool is_busy = thread_of(item) < PlaneTile::count(layout);
    const RowUnits rows = row_units<Kind>(layout, tile, rows_most(layout, tile, values), unit_of, is_busy, job.payload);
    pack_tile(job, layout, Kind::shape(), tile, values, rows);
  });
}

template <class Kind, std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    decode_blocks(const Batch<DecodeFrame, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const DecodeFrame& frame, std::size_t item) {
    const kernels::MinifloatDecode& job = frame.job;
    const MinifloatLayout layout = Kind::layout(job.params, job.y.count);
    const bool is_ours = has_start(job.payload, frame.start);
    const std::size_t tile = thread_of(item);
    if (tile >= PlaneTile::count(layout)) return;
    if (is_ours) {
      decode_tile<Kind>(job, tile);
    } else {
      spoil_tile(layout, job.y, PlaneTile::at(tile));
    }
  });
}

/// Calls visit(MinifloatKind of these parameters).
template <class Visit>
void visit_kind(const MinifloatParams& params, Visit visit) {
  using enum MinifloatFormat;
  constexpr auto kMx = MinifloatScale::e8m0;
  if (params.scale == MinifloatScale::nvfp4) return visit(MinifloatKind<e2m1, MinifloatScale::nvfp4>{});
  if (params.scale == MinifloatScale::f32) {
    if (params.format == e4m3) return visit(MinifloatKind<e4m3, MinifloatScale::f32>{});
    return visit(MinifloatKind<e5m2, MinifloatScale::f32>{});
  }
  switch (params.format) {
    case e2m1: return visit(MinifloatKind<e2m1, kMx>{});
    case e2m3: return visit(MinifloatKind<e2m3, kMx>{});
    case e3m2: return visit(MinifloatKind<e3m2, kMx>{});
    case e4m3: return visit(MinifloatKind<e4m3, kMx>{});
    case e5m2: return visit(MinifloatKind<e5m2, kMx>{});
  }
}

[[nodiscard]] MinifloatLayout layout_of(const EncodeFrame& frame) { return {frame.job.params, frame.job.x.count}; }

template <class Kind>
void encode_in_two(const JobList<EncodeFrame>& jobs, StreamRef stream) {
  std::size_t blocks = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) blocks += layout_of(jobs[i]).blocks();
  const Scratch scratch(blocks * sizeof(MinifloatUnit), stream);
  const auto scaled = [&](MinifloatUnit*& units, const EncodeFrame& frame) {
    MinifloatUnit* const own = units;
    units += layout_of(frame).blocks();
    return ScaledFrame{frame, own};
  };
  auto* found = reinterpret_cast<MinifloatUnit*>(scratch.data());
  auto* used = found;
  launch_in_turn(
      {"find_units", stream}, jobs.size(), [&](std::size_t i) { return scaled(found, jobs[i]); },
      [](const ScaledFrame& job) { return blocks_of(layout_of(job.frame).blocks() * kWarp); },
      [](auto capacity) { return find_units<capacity()>; });
  launch_in_turn(
      {"pack_blocks", stream}, jobs.size(), [&](std::size_t i) { return scaled(used, jobs[i]); },
      [](const ScaledFrame& job) { return blocks_of(PlaneTile::count(layout_of(job.frame))); },
      [](auto capacity) { return pack_blocks<Kind, capacity()>; });
}

template <class Kind>
void launch_encode(const JobList<EncodeFrame>& jobs, StreamRef stream) {
  if constexpr (Kind::kScale == MinifloatScale::e8m0) {
    launch_jobs(
        {"encode_mx", stream}, jobs,
        [](const EncodeFrame& frame) { return blocks_of(PlaneTile::count(layout_of(frame))); },
        [](auto capacity) { return encode_mx<Kind, capacity()>; });
  } else {
    if (jobs[0].job.params.block % (PlaneTile::kRows * PlaneTile::kRowElems) != 0)
      return encode_in_two<Kind>(jobs, stream);
    launch_jobs(
        {"encode_blocks", stream}, jobs, [](const EncodeFrame& frame) { return block_items(layout_of(frame)); },
        [](auto capacity) { return encode_blocks<Kind, capacity()>; });
  }
}

}  // namespace

void minifloat_encode(const JobList<EncodeFrame>& jobs, StreamRef stream) {
  if (jobs.size() == 0) return;
  visit_kind(jobs[0].job.params, [&](auto kind) { launch_encode<decltype(kind)>(jobs, stream); });
}

void minifloat_decode(const JobList<DecodeFrame>& jobs, StreamRef stream) {
  if (jobs.size() == 0) return;
  visit_kind(jobs[0].job.params, [&](auto kind) {
    launch_jobs(
        {"decode_blocks", stream}, jobs,
        [](const DecodeFrame& frame) {
          return blocks_of(PlaneTile::count(MinifloatLayout{frame.job.params, frame.job.y.count}));
        },
        [](auto capacity) { return decode_blocks<decltype(kind), capacity()>; });
  });
}

}  // namespace gradwire::device
