// `thc` under `integer_sum`: rotated values become codes, and sums of codes become values, in the shared memory in
// which blocks are transformed.
#include "compress/device/integer_codes_tile.hpp"
#include "compress/device/rotate.cuh"
#include "compress/device/tile_random.hpp"

namespace gradwire::device {
namespace {

[[nodiscard]] __device__ float half_unit_at(const ThcBlocks& blocks, const float* ranges, std::size_t element) {
  return thc::half_unit(blocks.scale, ranges[block_of(blocks.rotation, element)]);
}

/// Half a warp a block.
__global__ void __launch_bounds__(kBlockThreads)
    find_ranges(const Rotation rotation, const ConstTensor x, float* ranges) {
  const unsigned column = threadIdx.x % kColumns;
  const std::size_t blocks = blocks_of(rotation);
  for (std::size_t first = thread_index() / kWarp * 2; first < blocks; first += thread_count() / kWarp * 2) {
    const std::size_t block = first + threadIdx.x % kWarp / kColumns;
    const std::size_t at = block * rotation.block;
    const std::size_t there = there_from(x.count, at, rotation.block);
    const double squares = add_columns(column_squares(x, at, there, column));
    if (column == 0 && block < blocks) ranges[block] = thc::range_of(squares, size_of_block(rotation, block));
  }
}

template <std::size_t chunk_elems>
__global__ void __launch_bounds__(kBlockThreads)
    encode_blocks(const RotationPart part, float factor, const ThcBlocks blocks, const ConstTensor x,
                  const float* ranges, const RandomKey own, const Tensor codes) {
  __shared__ float chunk[place_in_chunk(chunk_elems)];
  TileRandom random(own, own.first_element + part.first);
  visit_chunks<chunk_elems>(part, [&](std::size_t first, std::size_t n) {
    load_chunk(x, blocks.signs, factor, part.first + first, n, chunk);
    transform(chunk, n, part.size);
    for (std::size_t i = threadIdx.x * kRowPart; i < n; i += kBlockThreads * kRowPart) {
      const std::size_t element = part.first + first + i;
      const float inv = thc::inverse_unit(half_unit_at(blocks, ranges, element));
      std::uint32_t four[kRowPart];
      GRADWIRE_UNROLL
      for (std::size_t c = 0; c < kRowPart; ++c) {
        const std::uint16_t number = random.at(own.first_element + element + c);
        four[c] = thc::code_of(chunk[place_in_chunk(i + c)], inv, blocks.scale.top, number);
      }
      store_codes(codes, element, four);
    }
  });
}

template <std::size_t chunk_elems, class Into>
__global__ void __launch_bounds__(kBlockThreads)
    decode_blocks(const RotationPart part, float factor, const ThcBlocks blocks, const ConstTensor codes,
                  std::int32_t offset, const float* ranges, const Into into) {
  __shared__ float chunk[place_in_chunk(chunk_elems)];
  visit_chunks<chunk_elems>(part, [&](std::size_t first, std::size_t n) {
    for (std::size_t i = threadIdx.x * kRowPart; i < n; i += kBlockThreads * kRowPart) {
      const std::size_t element = part.first + first + i;
      const float half = half_unit_at(blocks, ranges, element);
      std::uint32_t four[kRowPart];
      load_codes(codes, element, four);
      GRADWIRE_UNROLL
      for (std::size_t c = 0; c < kRowPart; ++c)
        chunk[place_in_chunk(i + c)] = thc::value_of(four[c], offset, half) * factor;
    }
    transform(chunk, n, part.size);
    put_chunk(blocks.signs, into, part.first + first, n, chunk);
  });
}

template <class Into>
void launch_decode(const ThcBlocks& blocks, ConstTensor codes, std::int32_t offset, const float* ranges,
                   const Into& into, StreamRef stream) {
  for (const RotationPart& part : {whole_blocks(blocks.rotation), last_block(blocks.rotation)}) {
    if (part.padded == 0) continue;
    launch_part("decode_blocks", decode_blocks<kChunk, Into>, decode_blocks<kernels::kMaxRotation, Into>, part, stream,
                blocks, codes, offset, ranges, into);
  }
}

}  // namespace

void thc_ranges(const ThcBlocks& blocks, ConstTensor x, float* ranges, StreamRef stream) {
  const std::size_t threads = (blocks_of(blocks.rotation) + 1) / 2 * kWarp;
  launch("find_ranges", find_ranges, threads, stream, blocks.rotation, x, ranges);
}

void thc_encode(const ThcBlocks& blocks, ConstTensor x, const float* ranges, const RandomKey& own, Tensor codes,
                StreamRef stream) {
  for (const RotationPart& part : {whole_blocks(blocks.rotation), last_block(blocks.rotation)}) {
    if (part.padded == 0) continue;
    launch_part("encode_blocks", encode_blocks<kChunk>, encode_blocks<kernels::kMaxRotation>, part, stream, blocks, x,
                ranges, own, codes);
  }
}

void thc_residual(const ThcBlocks& blocks, ConstTensor codes, const float* ranges, ConstTensor x, float* residual,
                  StreamRef stream) {
  const auto top = static_cast<std::int32_t>(blocks.scale.top);
  launch_decode(blocks, codes, top, ranges, IntoResidual{x, residual}, stream);
}

void thc_decode(const ThcBlocks& blocks, ConstTensor codes, std::int32_t offset, const float* ranges, Tensor y,
                StreamRef stream) {
  launch_decode(blocks, codes, offset, ranges, IntoTensor{y, Write::assign}, stream);
}

}  // namespace gradwire::device
