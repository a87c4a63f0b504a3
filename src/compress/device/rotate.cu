#include "compress/device/codecs.hpp"
#include "compress/device/rotate.cuh"

namespace gradwire::device {
namespace {

template <std::size_t chunk_elems>
__global__ void __launch_bounds__(kBlockThreads)
    transform_forward(const RotationPart part, float factor, const Rotation rotation, const ConstTensor x,
                      const kernels::SignKey signs, float* y, std::byte* payload, const FrameStart start) {
  __shared__ float chunk[place_in_chunk(chunk_elems)];
  if (part.first == 0 && thread_index() == 0) {
    store_start(payload, start);
    store_signs(rotation, signs, payload);
  }
  visit_chunks<chunk_elems>(part, [&](std::size_t first, std::size_t n) {
    load_chunk(x, signs, factor, part.first + first, n, chunk);
    transform(chunk, n, part.size);
    for (std::size_t i = threadIdx.x * kRowPart; i < n; i += kBlockThreads * kRowPart) {
      float values[kRowPart];
      GRADWIRE_UNROLL
      for (std::size_t c = 0; c < kRowPart; ++c) values[c] = chunk[place_in_chunk(i + c)];
      store_row(y, DType::f32, part.first - rotation.begin + first + i, kRowPart, values);
    }
  });
}

template <std::size_t chunk_elems, class Into>
__global__ void __launch_bounds__(kBlockThreads)
    transform_back(const RotationPart part, float factor, const Rotation rotation, const float* q, const Into into,
                   const std::byte* payload, const FrameStart expected) {
  __shared__ float chunk[place_in_chunk(chunk_elems)];
  const bool is_ours = has_start(payload, expected);
  const kernels::SignKey signs = load_signs(payload);
  visit_chunks<chunk_elems>(part, [&](std::size_t first, std::size_t n) {
    for (std::size_t i = threadIdx.x * kRowPart; i < n; i += kBlockThreads * kRowPart) {
      const float unit = is_ours ? decode_factor(rotation, factor, payload, part.first + first + i) : kNaN;
      float values[kRowPart];
      load_row(q, DType::f32, part.first - rotation.begin + first + i, kRowPart, values);
      GRADWIRE_UNROLL
      for (std::size_t c = 0; c < kRowPart; ++c) chunk[place_in_chunk(i + c)] = values[c] * unit;
    }
    transform(chunk, n, part.size);
    put_chunk(signs, into, part.first + first, n, chunk);
  });
}

/// Half a warp a block.
__global__ void __launch_bounds__(kBlockThreads)
    find_factors(const Rotation rotation, const float* y, const float* q, bool unbiased, std::byte* payload) {
  const unsigned column = threadIdx.x % kColumns;
  const std::size_t blocks = blocks_of(rotation);
  for (std::size_t first = thread_index() / kWarp * 2; first < blocks; first += thread_count() / kWarp * 2) {
    const std::size_t block = first + threadIdx.x % kWarp / kColumns;
    const std::size_t at = block * rotation.block;
    kernels::Products sums = column_products(y + at, q + at, size_of_block(rotation, block), column);
    sums = {add_columns(sums.yy), add_columns(sums.yq), add_columns(sums.qq)};
    if (column != 0 || block >= blocks) continue;
    const float factor = rotation::block_factor(sums, unbiased);
    store_word(payload + kSignBytes + block * sizeof factor, std::bit_cast<std::uint32_t>(factor));
  }
}

/// A thread block a block: a warp finds how far it may reach.
__global__ void __launch_bounds__(kBlockThreads)
    clip_blocks(const Rotation rotation, const float* y, float clip, float* out) {
  __shared__ float shared_limit;
  const std::size_t blocks = blocks_of(rotation);
  for (std::size_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    const std::size_t at = block * rotation.block;
    const std::size_t size = size_of_block(rotation, block);
    if (threadIdx.x < kWarp) {
      const double squares = add_columns(column_products(y + at, y + at, size, threadIdx.x % kColumns).yy);
      if (threadIdx.x == 0) shared_limit = rotation::clip_limit(clip, squares, size);
    }
    __syncthreads();
    const float limit = shared_limit;
    for (std::size_t i = threadIdx.x; i < size; i += kBlockThreads) {
      const float value = y[at + i];
      out[at + i] = value < -limit ? -limit : limit < value ? limit : value;
    }
    __syncthreads();  // before the next block's limit
  }
}

template <class Into>
void launch_back(const Rotation& rotation, const float* q, const Into& into, const std::byte* payload,
                 const FrameStart& expected, StreamRef stream) {
  for (const RotationPart& part : {whole_blocks(rotation), last_block(rotation)}) {
    if (part.padded == 0) continue;
    launch_part("transform_back", transform_back<kChunk, Into>, transform_back<kernels::kMaxRotation, Into>, part,
                stream, rotation, q, into, payload, expected);
  }
}

}  // namespace

void rotate_forward(const Rotation& rotation, ConstTensor x, const kernels::SignKey& signs, float* y,
                    std::byte* payload, const FrameStart& start, StreamRef stream) {
  const RotationPart whole = whole_blocks(rotation);
  const RotationPart last = last_block(rotation);
  const auto launch_forward = [&](const RotationPart& part) {
    launch_part("transform_forward", transform_forward<kChunk>, transform_forward<kernels::kMaxRotation>, part, stream,
                rotation, x, signs, y, payload, start);
  };
  if (whole.padded != 0 || last.padded == 0) launch_forward(whole);
  if (last.padded != 0) launch_forward(last);
}

void rotate_clip(const Rotation& rotation, const float* y, float clip, float* out, StreamRef stream) {
  launch("clip_blocks", clip_blocks, blocks_of(rotation) * kBlockThreads, stream, rotation, y, clip, out);
}

void rotate_factors(const Rotation& rotation, const float* y, const float* q, bool unbiased, std::byte* payload,
                    StreamRef stream) {
  const std::size_t threads = (blocks_of(rotation) + 1) / 2 * kWarp;
  launch("find_factors", find_factors, threads, stream, rotation, y, q, unbiased, payload);
}

void rotate_decode(const Rotation& rotation, const float* q, Tensor y, Write write, const std::byte* payload,
                   const FrameStart& expected, StreamRef stream) {
  launch_back(rotation, q, IntoTensor{y, write}, payload, expected, stream);
}

void rotate_residual(const Rotation& rotation, const float* q, ConstTensor x, float* residual, const std::byte* payload,
                     const FrameStart& start, StreamRef stream) {
  launch_back(rotation, q, IntoResidual{x, residual}, payload, start, stream);
}

}  // namespace gradwire::device
