// A rotation and `quantize` behind it in one kernel: rotated values stay in shared memory, so that input, codes and
// residual are all that is read and written.
#include "compress/device/bucket_norms.cuh"
#include "compress/device/codecs.hpp"
#include "compress/device/quantize_tile.hpp"
#include "compress/device/rotate.cuh"

#include "gradwire/error.hpp"

namespace gradwire::device {
namespace {

constexpr std::size_t kTileElems = QuantizeTile::kRows * QuantizeTile::kColumns;
constexpr unsigned kTilesOfChunk = kChunk / kTileElems;  // in as many threads

/// Where a chunk lies: in which of a run's frames, from which of its elements on.
struct ChunkPlace {
  std::size_t frame;
  std::size_t first;

  [[nodiscard]] static __device__ ChunkPlace at(const FrameRun& run, std::size_t element) {
    return {element / run.elements, element % run.elements};
  }
};

/// Elements of a tile, which the chunk from `first` on has.
[[nodiscard]] __device__ std::size_t place_of(const QuantizeTile& tile, std::size_t row, std::size_t column,
                                              std::size_t first) {
  return place_in_chunk(tile.element(row, column) - first);
}

[[nodiscard]] __device__ RotationPart all_of(const RotatedSpans& spans) {
  return {0, spans.run.frames * spans.run.elements, kChunk};
}

/// Codes of the chunk's elements into their frame; what they decode to, times `unit`, takes the elements' place where
/// `decodes`.
__device__ void encode_chunk(const kernels::QuantizeEncode& job, std::size_t first, float* chunk, float unit,
                             bool decodes) {
  __shared__ BucketNorms norms[kTilesOfChunk];
  __shared__ BucketScale scales[kTilesOfChunk];
  const QuantizeLayout layout{job.params, job.x.count};
  const auto threads = static_cast<unsigned>(tiles_a_bucket(job.params));
  const unsigned local = threadIdx.x / threads;
  const bool busy = threadIdx.x < kTilesOfChunk;
  const QuantizeTile tile = QuantizeTile::at(first / kTileElems + threadIdx.x);
  TileValues values;
  if (busy) {
    GRADWIRE_UNROLL
    for (std::size_t row = 0; row < QuantizeTile::kRows; ++row) GRADWIRE_UNROLL
    for (std::size_t column = 0; column < QuantizeTile::kColumns; ++column)
      values.at[row][column] = chunk[place_of(tile, row, column, first)];
    norms[threadIdx.x] = tile_norms(layout, tile, values);
  }
  join_tile_norms(norms, threadIdx.x % threads, threads, busy);
  if (busy && threadIdx.x % threads == 0) {
    BucketScale scale;
    if (!find_scale(job.params, norms[threadIdx.x], nullptr, job.params.bucket, scale)) scale = kNoScale;
    store_scale(layout, first / job.params.bucket + local, scale, job.payload);
    scales[local] = scale;
  }
  __syncthreads();
  if (!busy) return;
  const BucketScale scale = scales[local];
  const TileCodes codes = pack_tile(job, tile, values, [&](std::size_t) { return scale; });
  if (!decodes) return;
  GRADWIRE_UNROLL
  for (std::size_t row = 0; row < QuantizeTile::kRows; ++row) GRADWIRE_UNROLL
  for (std::size_t column = 0; column < QuantizeTile::kColumns; ++column) {
    const int code = static_cast<int>(codes.row[row] >> 8 * column & 0xffu);
    chunk[place_of(tile, row, column, first)] = value_of(job.params, scale, code, nullptr) * unit;
  }
}

__global__ void __launch_bounds__(kBlockThreads)
    rotate_and_quantize(const Rotation rotation, float factor, const ConstTensor x, const kernels::SignKey signs,
                        const RotatedSpans spans, const kernels::QuantizeEncode inner, float* residual,
                        std::byte* payload, const FrameStart start) {
  __shared__ float chunk[place_in_chunk(kChunk)];
  if (thread_index() == 0) {
    store_start(payload, start);
    store_signs(rotation, signs, payload);
  }
  visit_chunks<kChunk>(all_of(spans), [&](std::size_t first, std::size_t) {
    load_chunk(x, signs, factor, first, kChunk, chunk);
    transform(chunk, kChunk, rotation.block);
    const ChunkPlace place = ChunkPlace::at(spans.run, first);
    kernels::QuantizeEncode job = inner;
    job.payload += place.frame * spans.run.bytes;
    job.key.first_element += place.frame * spans.run.elements;
    if (place.first == 0 && threadIdx.x == 0) store_start(job.payload, spans.start);
    encode_chunk(job, place.first, chunk, factor, residual != nullptr);
    if (residual == nullptr) return;
    transform(chunk, kChunk, rotation.block);
    put_chunk(signs, IntoResidual{x, residual}, first, kChunk, chunk);
  });
}

__global__ void __launch_bounds__(kBlockThreads)
    dequantize_and_rotate(const Rotation rotation, float factor, const RotatedSpans spans, const std::byte* frames,
                          const IntoTensor into, const std::byte* payload, const FrameStart expected) {
  __shared__ float chunk[place_in_chunk(kChunk)];
  const bool is_ours = has_start(payload, expected);
  const kernels::SignKey signs = load_signs(payload);
  const QuantizeLayout layout{spans.params, spans.run.elements};
  visit_chunks<kChunk>(all_of(spans), [&](std::size_t first, std::size_t) {
    const ChunkPlace place = ChunkPlace::at(spans.run, first);
    const std::byte* const frame = frames + place.frame * spans.run.bytes;
    const bool is_whole = is_ours && has_start(frame, spans.start);
    if (threadIdx.x < kTilesOfChunk) {
      const QuantizeTile tile = QuantizeTile::at(place.first / kTileElems + threadIdx.x);
      const TileCodes codes = unpack_tile(layout, frame, tile);
      GRADWIRE_UNROLL
      for (std::size_t row = 0; row < QuantizeTile::kRows; ++row) {
        const std::size_t at = tile.element(row, 0) - place.first;
        const float unit = is_whole ? decode_factor(rotation, factor, payload, first + at) : kNaN;
        float values[QuantizeTile::kColumns];
        decode_row(layout, frame, tile.element(row, 0), QuantizeTile::kColumns, codes.row[row], Write::assign, values);
        GRADWIRE_UNROLL
        for (std::size_t column = 0; column < QuantizeTile::kColumns; ++column)
          chunk[place_in_chunk(at + column)] = values[column] * unit;
      }
    }
    transform(chunk, kChunk, rotation.block);
    put_chunk(signs, into, first, kChunk, chunk);
  });
}

std::size_t chunk_threads(const RotatedSpans& spans) {
  return spans.run.frames * spans.run.elements / kChunk * kBlockThreads;
}

void require_chunks(const Rotation& rotation, const RotatedSpans& spans) {
  if (can_rotate_and_quantize(rotation, spans)) return;
  throw Error(Errc::unsupported, "rotations and quantisers that are not done in one kernel");
}

}  // namespace

void rotate_quantize_encode(const Rotation& rotation, ConstTensor x, const kernels::SignKey& signs,
                            const RotatedSpans& spans, std::byte* frames, const RandomKey& key, float* residual,
                            std::byte* payload, const FrameStart& start, StreamRef stream) {
  require_chunks(rotation, spans);
  const ConstTensor span{nullptr, spans.run.elements, DType::f32, Space::device};  // in shared memory
  const kernels::QuantizeEncode inner{spans.params, span, frames + sizeof(FrameStart), nullptr, key};
  launch("rotate_and_quantize", rotate_and_quantize, chunk_threads(spans), stream, rotation,
         rotation_factor(rotation.block), x, signs, spans, inner, residual, payload, start);
}

void rotate_quantize_decode(const Rotation& rotation, const RotatedSpans& spans, const std::byte* frames, Tensor y,
                            Write write, const std::byte* payload, const FrameStart& expected, StreamRef stream) {
  require_chunks(rotation, spans);
  launch("dequantize_and_rotate", dequantize_and_rotate, chunk_threads(spans), stream, rotation,
         rotation_factor(rotation.block), spans, frames + sizeof(FrameStart), IntoTensor{y, write}, payload, expected);
}

}  // namespace gradwire::device
