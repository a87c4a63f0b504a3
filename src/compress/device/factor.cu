#include <cmath>

#include "base/device.hpp"
#include "compress/device/factor.hpp"
#include "compress/device/factor_batch.hpp"
#include "compress/device/launch.cuh"
#include "compress/factor_steps.hpp"

// Products are bound by memory at the ranks that low rank has: each reads its matrix once for four columns of a factor,
// with the sums of a block of it in registers. cuBLAS has no fixed order of sums.
namespace gradwire::device {
namespace {

constexpr unsigned kHalfWarp = kSumLanes;

/// Half a warp: two rows by four columns of one block of columns; what lacks to that is computed twice and dropped.
__device__ void times_item(const ProductJob& job, std::size_t item, unsigned lane, unsigned lanes) {
  const auto& [m, rows, cols, basis, rank, factor] = job.product;
  const std::size_t groups = divide_up(rank, kFactorGroup);
  const std::size_t pairs = divide_up(rows, kRowPair);
  const std::size_t j = item % groups * kFactorGroup;
  const std::size_t row = item / groups % pairs * kRowPair;
  const std::size_t block = item / groups / pairs;
  const std::size_t width = rank - j < kFactorGroup ? rank - j : kFactorGroup;
  const std::size_t second = row + 1 < rows ? cols : 0;
  const std::size_t first = block * job.product.row_block();
  const std::size_t end = cols - first < job.product.row_block() ? cols : first + job.product.row_block();
  const float* const x = m + row * cols;
  const float* columns[kFactorGroup];
  GRADWIRE_UNROLL
  for (std::size_t k = 0; k < kFactorGroup; ++k) columns[k] = basis + (j + (k < width ? k : width - 1)) * cols;
  float sums[kRowPair][kFactorGroup] = {};
  for (std::size_t i = first + lane; i < end; i += kSumLanes) {
    const float x0 = x[i];
    const float x1 = x[second + i];
    GRADWIRE_UNROLL
    for (std::size_t k = 0; k < kFactorGroup; ++k) {
      const float q = columns[k][i];
      sums[0][k] += x0 * q;
      sums[1][k] += x1 * q;
    }
  }
  float* const out = job.sums + block * rows * rank + j * rows + row;
  GRADWIRE_UNROLL
  for (std::size_t r = 0; r < kRowPair; ++r) {
    GRADWIRE_UNROLL
    for (std::size_t k = 0; k < kFactorGroup; ++k) {
      float sum = sums[r][k];
      for (int apart = kSumLanes / 2; apart != 0; apart /= 2) sum += __shfl_xor_sync(lanes, sum, apart);
      if (lane == 0 && k < width && row + r < rows) out[k * rows + r] = sum;
    }
  }
}

template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    times_blocks(const Batch<ProductJob, capacity> __grid_constant__ batch) {
  const unsigned lane = threadIdx.x % kHalfWarp;
  const unsigned lanes = 0xffffu << (threadIdx.x % (2 * kHalfWarp) - lane);
  for (std::size_t all = thread_index() / kHalfWarp; all < batch.items(); all += thread_count() / kHalfWarp) {
    std::size_t item = all;
    const ProductJob& job = batch.find(item);
    times_item(job, item, lane, lanes);
  }
}

/// A thread: one column of the matrix by four of the factor, over one block of rows.
__device__ void transposed_times_item(const ProductJob& job, std::size_t item) {
  const auto& [m, rows, cols, basis, rank, factor] = job.product;
  const std::size_t groups = divide_up(rank, kFactorGroup);
  const std::size_t col = item % cols;
  const std::size_t j = item / cols % groups * kFactorGroup;
  const std::size_t block = item / cols / groups;
  const std::size_t width = rank - j < kFactorGroup ? rank - j : kFactorGroup;
  const std::size_t first = block * job.product.column_block();
  const std::size_t end = rows - first < job.product.column_block() ? rows : first + job.product.column_block();
  const float* columns[kFactorGroup];
  GRADWIRE_UNROLL
  for (std::size_t k = 0; k < kFactorGroup; ++k) columns[k] = basis + (j + (k < width ? k : width - 1)) * rows;
  float sums[kFactorGroup] = {};
  for (std::size_t row = first; row < end; ++row) {
    const float x = m[row * cols + col];
    GRADWIRE_UNROLL
    for (std::size_t k = 0; k < kFactorGroup; ++k) sums[k] += columns[k][row] * x;
  }
  float* const out = job.sums + block * cols * rank + j * cols + col;
  GRADWIRE_UNROLL
  for (std::size_t k = 0; k < kFactorGroup; ++k) {
    if (k < width) out[k * cols] = sums[k];
  }
}

template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    transposed_times_blocks(const Batch<ProductJob, capacity> __grid_constant__ batch) {
  for (std::size_t all = thread_index(); all < batch.items(); all += thread_count()) {
    std::size_t item = all;
    const ProductJob& job = batch.find(item);
    transposed_times_item(job, item);
  }
}

template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads) add_blocks(const Batch<AddJob, capacity> __grid_constant__ batch) {
  for (std::size_t all = thread_index(); all < batch.items(); all += thread_count()) {
    std::size_t item = all;
    const AddJob& job = batch.find(item);
    float sum = 0;
    for (std::size_t block = 0; block < job.blocks; ++block) sum += job.sums[block * job.count + item];
    job.factor[item] = sum;
  }
}

/// Products of one column of the right factor with a group of rows of the left one.
__device__ void outer_products(const kernels::Expand& job, const float* left, const float* right, std::size_t row,
                               std::size_t col, float* entries) {
  const std::size_t height = job.rows - row < kRowGroup ? job.rows - row : kRowGroup;
  for (std::size_t j = 0; j < job.rank; ++j) {
    const float q = right[j * job.cols + col];
    GRADWIRE_UNROLL
    for (std::size_t r = 0; r < kRowGroup; ++r) {
      const float product = left[j * job.rows + row + (r < height ? r : height - 1)] * q;
      entries[r] = j == 0 ? product : entries[r] + product;
    }
  }
}

/// A thread: one column of a group of rows.
__device__ bool expand_item(const kernels::Expand& job, std::size_t item) {
  const std::size_t col = item % job.cols;
  const std::size_t row = item / job.cols * kRowGroup;
  const bool is_shared = job.left_sum == job.left_mine && job.right_sum == job.right_mine;
  float sums[kRowGroup];
  float mine[kRowGroup];
  outer_products(job, job.left_sum, job.right_sum, row, col, sums);
  if (job.residual != nullptr && !is_shared) outer_products(job, job.left_mine, job.right_mine, row, col, mine);
  bool all = true;
  GRADWIRE_UNROLL
  for (std::size_t r = 0; r < kRowGroup; ++r) {
    if (row + r >= job.rows) continue;
    const std::size_t place = (row + r) * job.cols + col;
    if (job.residual != nullptr) job.residual[place] = job.m[place] - (is_shared ? sums[r] : mine[r]);
    job.m[place] = sums[r];
    all = all && std::isfinite(sums[r]);
  }
  return all;
}

template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    expand_factors(const Batch<kernels::ExpandJob, capacity> __grid_constant__ batch) {
  for (std::size_t all = thread_index(); all < batch.items(); all += thread_count()) {
    std::size_t item = all;
    const kernels::ExpandJob& job = batch.find(item);
    if (!expand_item(job.expand, item)) *job.non_finite = 1;  // whoever comes last writes the same
  }
}

struct ProductShape {
  std::size_t blocks;
  std::size_t count;  ///< elements of the factor
  std::size_t items;
};

ProductShape times_shape(const kernels::MatrixTimes& job) {
  const std::size_t blocks = divide_up(job.cols, job.row_block());
  return {blocks, job.rows * job.rank, blocks * divide_up(job.rows, kRowPair) * divide_up(job.rank, kFactorGroup)};
}

ProductShape transposed_shape(const kernels::MatrixTimes& job) {
  const std::size_t blocks = divide_up(job.rows, job.column_block());
  return {blocks, job.cols * job.rank, blocks * job.cols * divide_up(job.rank, kFactorGroup)};
}

/// The sums of all blocks, and then, where there are several, their sums.
template <class ShapeOf, class KernelOf>
void multiply(const JobLaunch& what, std::span<const kernels::MatrixTimes> jobs, const ShapeOf& shape_of,
              const KernelOf& kernel_of) {
  std::size_t elems = 0;
  for (const kernels::MatrixTimes& job : jobs) {
    const ProductShape shape = shape_of(job);
    if (shape.blocks > 1) elems += shape.blocks * shape.count;
  }
  const Scratch scratch(elems * sizeof(float), what.stream);
  const auto take = [&](float*& sums, const ProductShape& shape) {
    float* const own = sums;
    if (shape.blocks > 1) sums += shape.blocks * shape.count;
    return own;
  };
  auto* made = reinterpret_cast<float*>(scratch.data());
  auto* added = made;
  const auto product_of = [&](std::size_t i) {
    const ProductShape shape = shape_of(jobs[i]);
    float* const sums = take(made, shape);
    return ProductJob{jobs[i], shape.blocks > 1 ? sums : jobs[i].factor};
  };
  const auto sum_of = [&](std::size_t i) {
    const ProductShape shape = shape_of(jobs[i]);
    return AddJob{take(added, shape), jobs[i].factor, shape.count, shape.blocks};
  };
  launch_in_turn(
      what, jobs.size(), product_of, [&](const ProductJob& job) { return shape_of(job.product).items; }, kernel_of);
  launch_in_turn(
      {"add_blocks", what.stream, 1}, jobs.size(), sum_of,
      [](const AddJob& job) { return job.blocks > 1 ? job.count : 0; },
      [](auto capacity) { return add_blocks<capacity()>; });
}

}  // namespace

void times(std::span<const kernels::MatrixTimes> jobs, StreamRef stream) {
  multiply({"times_blocks", stream, kHalfWarp}, jobs, times_shape,
           [](auto capacity) { return times_blocks<capacity()>; });
}

void transposed_times(std::span<const kernels::MatrixTimes> jobs, StreamRef stream) {
  multiply({"transposed_times_blocks", stream, 1}, jobs, transposed_shape,
           [](auto capacity) { return transposed_times_blocks<capacity()>; });
}

void expand(std::span<const kernels::ExpandJob> jobs, StreamRef stream) {
  launch_jobs(
      {"expand_factors", stream, 1}, JobList<kernels::ExpandJob>(jobs.size(), [&](std::size_t i) { return jobs[i]; }),
      [](const kernels::ExpandJob& job) { return divide_up(job.expand.rows, kRowGroup) * job.expand.cols; },
      [](auto capacity) { return expand_factors<capacity()>; });
}

}  // namespace gradwire::device
