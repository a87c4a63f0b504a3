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

__global__ void __launch_bounds__(kBlockThreads) times_blocks(const Batch<ProductJob> batch) {
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

__global__ void __launch_bounds__(kBlockThreads) transposed_times_blocks(const Batch<ProductJob> batch) {
  for (std::size_t all = thread_index(); all < batch.items(); all += thread_count()) {
    std::size_t item = all;
    const ProductJob& job = batch.find(item);
    transposed_times_item(job, item);
  }
}

__global__ void __launch_bounds__(kBlockThreads) add_blocks(const Batch<AddJob> batch) {
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

__global__ void __launch_bounds__(kBlockThreads) expand_factors(const Batch<kernels::ExpandJob> batch) {
  for (std::size_t all = thread_index(); all < batch.items(); all += thread_count()) {
    std::size_t item = all;
    const kernels::ExpandJob& job = batch.find(item);
    if (!expand_item(job.expand, item)) *job.non_finite = 1;  // whoever comes last writes the same
  }
}

/// Launches `kernel` over jobs, as many at a time as a batch takes. `threads(job)` says how many each wants, in items
/// of `threads_an_item` threads.
template <class Job>
class Launcher {
 public:
  Launcher(const char* name, void (*kernel)(Batch<Job>), std::size_t threads_an_item, StreamRef stream)
      : name_(name), kernel_(kernel), threads_an_item_(threads_an_item), stream_(stream) {}

  void add(const Job& job, std::size_t items) {
    if (items == 0) return;
    batch_.add(job, items);
    if (batch_.is_full()) finish();
  }
  void finish() {
    if (batch_.count == 0) return;
    launch(name_, kernel_, batch_.items() * threads_an_item_, stream_, batch_);
    batch_.count = 0;
  }

 private:
  const char* name_;
  void (*kernel_)(Batch<Job>);
  std::size_t threads_an_item_;
  StreamRef stream_;
  Batch<Job> batch_;
};

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
void multiply(std::span<const kernels::MatrixTimes> jobs, ProductShape (*shape_of)(const kernels::MatrixTimes&),
              Launcher<ProductJob> products, StreamRef stream) {
  std::size_t elems = 0;
  for (const kernels::MatrixTimes& job : jobs) {
    const ProductShape shape = shape_of(job);
    if (shape.blocks > 1) elems += shape.blocks * shape.count;
  }
  const Scratch scratch(elems * sizeof(float), stream);
  auto* sums = reinterpret_cast<float*>(scratch.data());
  Launcher<AddJob> adders("add_blocks", add_blocks, 1, stream);
  for (const kernels::MatrixTimes& job : jobs) {
    const ProductShape shape = shape_of(job);
    products.add({job, shape.blocks > 1 ? sums : job.factor}, shape.items);
    if (shape.blocks > 1) sums += shape.blocks * shape.count;
  }
  products.finish();
  sums = reinterpret_cast<float*>(scratch.data());
  for (const kernels::MatrixTimes& job : jobs) {
    const ProductShape shape = shape_of(job);
    if (shape.blocks < 2) continue;
    adders.add({sums, job.factor, shape.count, shape.blocks}, shape.count);
    sums += shape.blocks * shape.count;
  }
  adders.finish();
}

}  // namespace

void times(std::span<const kernels::MatrixTimes> jobs, StreamRef stream) {
  multiply(jobs, times_shape, {"times_blocks", times_blocks, kHalfWarp, stream}, stream);
}

void transposed_times(std::span<const kernels::MatrixTimes> jobs, StreamRef stream) {
  multiply(jobs, transposed_shape, {"transposed_times_blocks", transposed_times_blocks, 1, stream}, stream);
}

void expand(std::span<const kernels::ExpandJob> jobs, StreamRef stream) {
  Launcher<kernels::ExpandJob> launcher("expand_factors", expand_factors, 1, stream);
  for (const kernels::ExpandJob& job : jobs) launcher.add(job, divide_up(job.expand.rows, kRowGroup) * job.expand.cols);
  launcher.finish();
}

}  // namespace gradwire::device
