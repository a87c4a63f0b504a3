#pragma once
#include <bit>
#include <cstddef>

#include "compress/device/launch.cuh"
#include "compress/device/rotate_tile.hpp"

/// \file What kernels that transform blocks share: those of `rotate`, and of `thc` under `integer_sum`. A thread block
/// has a chunk in its shared memory.
namespace gradwire::device {

inline constexpr unsigned kColumns = 16;  // partial sums of a block
/// Elements that a thread block transforms at a time: 16 a thread, or the largest block.
inline constexpr std::size_t kChunk = kRotationChunk;
static_assert(kChunk / kBlockThreads == 16 && kernels::kMaxRotation % kChunk == 0);

template <unsigned levels>
__device__ void transform_pass(float* chunk, std::size_t n, std::size_t half) {
  for (std::size_t item = threadIdx.x; item < n >> levels; item += kBlockThreads)
    transform_item<levels>(chunk, item, half);
  __syncthreads();
}

/// H of each block of a chunk of n elements that are all there. Waits for those who fill it, and for those who
/// transform.
__device__ inline void transform(float* chunk, std::size_t n, std::size_t size) {
  __syncthreads();
  std::size_t half = 1;
  auto left = static_cast<unsigned>(std::countr_zero(size));
  while (left != 0) {
    const unsigned levels = levels_of_pass(left);
    switch (levels) {
      case 1: transform_pass<1>(chunk, n, half); break;
      case 2: transform_pass<2>(chunk, n, half); break;
      case 3: transform_pass<3>(chunk, n, half); break;
      default: transform_pass<4>(chunk, n, half); break;
    }
    half <<= levels;
    left -= levels;
  }
}

/// Calls visit(first element of the part's chunk, its elements) for the chunks of this thread block.
template <std::size_t chunk_elems, class Visit>
__device__ void visit_chunks(const RotationPart& part, Visit visit) {
  for (std::size_t first = blockIdx.x * chunk_elems; first < part.padded; first += gridDim.x * chunk_elems) {
    const std::size_t left = part.padded - first;
    visit(first, left < chunk_elems ? left : chunk_elems);
    __syncthreads();  // before the next one is loaded
  }
}

/// x D / sqrt(size) of n elements from `first` on, into a chunk. Followed by transform().
__device__ inline void load_chunk(const ConstTensor& x, const kernels::SignKey& signs, float factor, std::size_t first,
                                  std::size_t n, float* chunk) {
  for (std::size_t i = threadIdx.x * kRowPart; i < n; i += kBlockThreads * kRowPart)
    load_signed(x, signs, factor, first + i, chunk, i);
}

/// Decoded values, into y.
struct IntoTensor {
  static constexpr bool kNegates = false;
  Tensor y;
  Write write;

  __device__ void put(std::size_t first, float* values) const {
    const std::size_t n = there_from(y.count, first);
    float sums[kRowPart] = {};
    if (write == Write::add) load_row(y.data, y.dtype, first, n, sums);
    GRADWIRE_UNROLL
    for (std::size_t i = 0; i < kRowPart; ++i) sums[i] = write == Write::add ? sums[i] + values[i] : values[i];
    store_row(y.data, y.dtype, first, n, sums);
  }
};
/// Negated ones, added to x.
struct IntoResidual {
  static constexpr bool kNegates = true;
  ConstTensor x;
  float* residual;

  __device__ void put(std::size_t first, float* values) const {
    const std::size_t n = there_from(x.count, first);
    float sums[kRowPart] = {};
    load_row(x.data, x.dtype, first, n, sums);
    GRADWIRE_UNROLL
    for (std::size_t i = 0; i < kRowPart; ++i) sums[i] += values[i];
    store_row(residual, DType::f32, first, n, sums);
  }
};

/// 1 / sqrt(size) times the block's factor.
[[nodiscard]] __device__ inline float decode_factor(const Rotation& rotation, float factor, const std::byte* payload,
                                                    std::size_t element) {
  if (!rotation.has_factors) return factor;
  return factor * load_element(payload + kSignBytes, DType::f32, element / rotation.block);
}

/// D v of a chunk that is transformed, from element `first` on.
template <class Into>
__device__ void put_chunk(const kernels::SignKey& signs, const Into& into, std::size_t first, std::size_t n,
                          const float* chunk) {
  for (std::size_t i = threadIdx.x * kRowPart; i < n; i += kBlockThreads * kRowPart) {
    float values[kRowPart];
    take_signed(signs, Into::kNegates, first + i, chunk, i, values);
    into.put(first + i, values);
  }
}

/// Sums of 16 lanes' numbers, pairwise: in the first of them. All lanes of the warp call this.
[[nodiscard]] __device__ inline double add_columns(double sum) {
  for (unsigned apart = kColumns / 2; apart != 0; apart /= 2) sum += __shfl_down_sync(kAllLanes, sum, apart);
  return sum;
}

/// The block's elements; 0 for one that is not there.
[[nodiscard]] __device__ inline std::size_t size_of_block(const Rotation& rotation, std::size_t block) {
  const std::size_t first = block * rotation.block;
  if (first >= rotation.count) return 0;
  return rotation.count - first < rotation.block ? tail_size(rotation) : rotation.block;
}

/// Launches a kernel of a part, its size's factor and `arguments`: the one of two that has room for a block.
template <class Small, class Large, class... Arguments>
void launch_part(const char* name, Small small, Large large, const RotationPart& part, StreamRef stream,
                 const Arguments&... arguments) {
  const float factor = part.size == 0 ? 0 : rotation_factor(part.size);
  const std::size_t elems = part.size > kChunk ? kernels::kMaxRotation : kChunk;
  const std::size_t threads = (part.padded + elems - 1) / elems * kBlockThreads;
  if (part.size > kChunk) return launch(name, large, threads, stream, part, factor, arguments...);
  launch(name, small, threads, stream, part, factor, arguments...);
}

}  // namespace gradwire::device
