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

__device__ void store_start_once(const kernels::MinifloatEncode& job, const FrameStart& start) {
  if (thread_index() == 0) store_start(job.payload, start);
}

/// mx: a thread a tile, scales among four of them. All lanes of a warp stay together; what lies behind the frame has no
/// elements.
template <class Kind>
__global__ void __launch_bounds__(kBlockThreads)
    encode_mx(const kernels::MinifloatEncode job, const FrameStart start, std::size_t tiles) {
  const MinifloatLayout layout = Kind::layout(job.params, job.x.count);
  const unsigned lane = threadIdx.x % kWarp;
  store_start_once(job, start);
  for (std::size_t first = thread_index() - lane; first < tiles; first += thread_count()) {
    const PlaneTile tile = PlaneTile::at(first + lane);
    const TileValues values = load_tile(layout, job.x, tile);
    const RowsMost most = join_across(rows_most(layout, tile, values));
    pack_tile(job, layout, Kind::shape(), tile, values, settle_mx(layout, Kind::shape(), tile, most, job.payload));
  }
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

/// f8 and nvfp4 where tiles lie within the frame's blocks: a thread a tile, the threads of whole blocks in a thread
/// block, and x is read once.
template <class Kind>
__global__ void __launch_bounds__(kBlockThreads)
    encode_blocks(const kernels::MinifloatEncode job, const FrameStart start) {
  __shared__ unsigned mosts[kMostBlocksOfOne];
  const MinifloatLayout layout = Kind::layout(job.params, job.x.count);
  const auto threads = static_cast<unsigned>(layout.params.block / (PlaneTile::kRows * PlaneTile::kColumns));
  const unsigned blocks = kBlockThreads / threads;  // of this thread block
  const unsigned local = threadIdx.x / threads;
  const unsigned place = threadIdx.x % threads;
  store_start_once(job, start);
  for (std::size_t first = std::size_t{blockIdx.x} * blocks; first < layout.blocks();
       first += std::size_t{gridDim.x} * blocks) {
    const std::size_t block = first + local;
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
    __syncthreads();  // the next round's magnitudes
  }
}

/// And where they do not, in two kernels: a warp a block.
__global__ void __launch_bounds__(kBlockThreads)
    find_units(const kernels::MinifloatEncode job, MinifloatUnit* units, const FrameStart start) {
  const MinifloatLayout layout{job.params, job.x.count};
  const unsigned lane = threadIdx.x % kWarp;
  store_start_once(job, start);
  for (std::size_t block = thread_index() / kWarp; block < layout.blocks(); block += thread_count() / kWarp) {
    const std::size_t first = block * layout.params.block;
    const std::size_t left = layout.count - first;
    const std::size_t size = left < layout.params.block ? left : layout.params.block;
    std::uint32_t most = 0;
    for (std::size_t i = lane; i < size; i += kWarp) {
      const std::uint32_t bits = magnitude_bits(load_element(job.x.data, job.x.dtype, first + i));
      most = bits > most ? bits : most;
    }
    most = __reduce_max_sync(kAllLanes, most);
    if (lane != 0) continue;
    units[block] = unit_from_most(layout.params, most);
    store_unit(layout, block, units[block], job.payload);
  }
}

/// A thread a tile; lanes of a warp stay together, for nvfp4's groups.
template <class Kind>
__global__ void __launch_bounds__(kBlockThreads)
    pack_blocks(const kernels::MinifloatEncode job, const MinifloatUnit* units, std::size_t tiles) {
  const MinifloatLayout layout = Kind::layout(job.params, job.x.count);
  const unsigned lane = threadIdx.x % kWarp;
  for (std::size_t first = thread_index() - lane; first < tiles; first += thread_count()) {
    const PlaneTile tile = PlaneTile::at(first + lane);
    const TileValues values = load_tile(layout, job.x, tile);
    const auto unit_of = [&](std::size_t row) {
      if (tile.first_row + row >= layout.rows()) return MinifloatUnit{};
      return units[static_cast<std::uint32_t>(tile.element(row, 0)) / layout.params.block];
    };
    const RowUnits rows =
        row_units<Kind>(layout, tile, rows_most(layout, tile, values), unit_of, first + lane < tiles, job.payload);
    pack_tile(job, layout, Kind::shape(), tile, values, rows);
  }
}

template <class Kind>
__global__ void __launch_bounds__(kBlockThreads)
    decode_blocks(const kernels::MinifloatDecode job, const FrameStart expected, std::size_t tiles) {
  const bool is_ours = has_start(job.payload, expected);
  for (std::size_t tile = thread_index(); tile < tiles; tile += thread_count()) {
    if (is_ours) {
      decode_tile<Kind>(job, tile);
    } else {
      spoil_tile(Kind::layout(job.params, job.y.count), job.y, PlaneTile::at(tile));
    }
  }
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

template <class Kind>
void launch_encode(const kernels::MinifloatEncode& job, const FrameStart& start, StreamRef stream) {
  const MinifloatLayout layout{job.params, job.x.count};
  const std::size_t tiles = PlaneTile::count(layout);
  if constexpr (Kind::kScale == MinifloatScale::e8m0) {
    launch("encode_mx", encode_mx<Kind>, tiles, stream, job, start, tiles);
  } else {
    constexpr std::size_t kTiles = PlaneTile::kRows * PlaneTile::kRowElems;
    if (job.params.block % kTiles == 0) {
      const std::size_t threads = layout.blocks() * (job.params.block / kTiles * kAcross);
      return launch("encode_blocks", encode_blocks<Kind>, threads, stream, job, start);
    }
    const Scratch scratch(layout.blocks() * sizeof(MinifloatUnit), stream);
    auto* const units = reinterpret_cast<MinifloatUnit*>(scratch.data());
    launch("find_units", find_units, layout.blocks() * kWarp, stream, job, units, start);
    launch("pack_blocks", pack_blocks<Kind>, tiles, stream, job, units, tiles);
  }
}

}  // namespace

void minifloat_encode(const kernels::MinifloatEncode& job, const FrameStart& start, StreamRef stream) {
  visit_kind(job.params, [&](auto kind) { launch_encode<decltype(kind)>(job, start, stream); });
}

void minifloat_decode(const kernels::MinifloatDecode& job, const FrameStart& expected, StreamRef stream) {
  const std::size_t tiles = PlaneTile::count(MinifloatLayout{job.params, job.y.count});
  visit_kind(job.params, [&](auto kind) {
    launch("decode_blocks", decode_blocks<decltype(kind)>, tiles, stream, job, expected, tiles);
  });
}

}  // namespace gradwire::device
