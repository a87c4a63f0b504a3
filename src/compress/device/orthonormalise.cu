#include "base/device.hpp"
#include "compress/device/factor.hpp"
#include "compress/device/factor_batch.hpp"
#include "compress/device/launch.cuh"
#include "compress/factor_steps.hpp"

// A block a factor: its columns wait for one another, several times a column, which is cheap within a block only.
// cuSOLVER has no fixed order of sums either, and needs launches for each column.
namespace gradwire::device {
namespace {

constexpr unsigned kSums = 4;  // computed at a time
constexpr unsigned kThreads = kSums * qr::kSumLanes;

struct FactorJob {
  kernels::OrthonormaliseJob job;
  double* scratch;
};
using FactorBatch = Batch<FactorJob, jobs_in<FactorJob>(4096)>;  // parameters of any launch

/// What the threads of a block share.
struct Shared {
  double sums[kSums][qr::kSumLanes];
  qr::Reflection reflection;
  bool any_dependent;
};

/// One thread's place in its block.
struct Place {
  unsigned group = threadIdx.x / static_cast<unsigned>(qr::kSumLanes);  ///< of the threads of one sum
  unsigned lane = threadIdx.x % static_cast<unsigned>(qr::kSumLanes);
};

/// The sums of x[i] y[i] from `first` on, one for each group of threads where it is `busy`; all threads of the block
/// call it. Lane 0 of a group has the group's sum.
__device__ double dot(Shared& shared, const Place& at, bool busy, const double* x, const double* y, std::size_t first,
                      std::size_t length) {
  double* const sums = shared.sums[at.group];
  double sum = 0;
  if (busy) {
    const std::size_t begin = at.lane < first % qr::kSumLanes ? first / qr::kSumLanes + 1 : first / qr::kSumLanes;
    for (std::size_t i = begin * qr::kSumLanes + at.lane; i < length; i += qr::kSumLanes) sum += x[i] * y[i];
  }
  __syncthreads();  // the last sums have been read
  sums[at.lane] = sum;
  __syncthreads();
  for (unsigned half = qr::kSumLanes / 2; half >= kWarp; half /= 2) {
    if (at.lane < half) sums[at.lane] += sums[at.lane + half];
    __syncthreads();
  }
  if (at.lane >= kWarp) return 0;
  sum = sums[at.lane];
  for (int apart = kWarp / 2; apart != 0; apart /= 2) sum += __shfl_xor_sync(kAllLanes, sum, apart);
  return sum;
}

__device__ void load(const Factor& f, const qr::Scratch& s) {
  for (std::size_t i = threadIdx.x; i < f.count(); i += kThreads) s.v[i] = static_cast<double>(f.data[i]);
  __syncthreads();
}

__device__ void factorise(Shared& shared, const Place& at, const qr::Scratch& s) {
  for (std::size_t j = 0; j < s.rank; ++j) {
    double* const reflector = s.column(j);
    for (std::size_t first = j; first < s.rank; first += kSums) {
      const std::size_t k = first + at.group;
      const bool busy = k < s.rank;
      const double sum = dot(shared, at, busy, reflector, s.column(busy ? k : j), j + 1, s.length);
      if (busy && at.lane == 0) s.dots[k] = sum;
    }
    __syncthreads();
    const qr::Reflection reflection = qr::reflect(s, j, s.dots[j]);
    for (std::size_t k = j + 1 + threadIdx.x; k < s.rank; k += kThreads) {
      const double taken = qr::taken(s, reflection, j, k, s.dots[k]);
      s.column(k)[j] -= taken;
      s.dots[k] = taken;
    }
    if (threadIdx.x == 0) {
      s.tau[j] = reflection.tau;
      s.independence[j] = reflection.independence;
    }
    __syncthreads();
    for (std::size_t i = j + 1 + threadIdx.x; i < s.length; i += kThreads) {
      const double x = reflector[i] * reflection.inverse;
      reflector[i] = x;
      for (std::size_t k = j + 1; k < s.rank; ++k) s.column(k)[i] -= s.dots[k] * x;
    }
    __syncthreads();
  }
}

__device__ bool replace_dependent(Shared& shared, const kernels::OrthonormaliseJob& job, const qr::Scratch& s) {
  if (threadIdx.x == 0) {
    shared.any_dependent = false;
    for (std::size_t j = 0; j < s.rank; ++j) shared.any_dependent = shared.any_dependent || qr::is_dependent(s, j);
  }
  __syncthreads();
  if (!shared.any_dependent) return false;
  const RandomStream random(job.key);
  for (std::size_t j = 0; j < s.rank; ++j) {
    if (!qr::is_dependent(s, j)) continue;
    for (std::size_t i = threadIdx.x; i < s.length; i += kThreads)
      job.factor.column(j)[i] = qr::random_entry(random, j * s.length + i);
  }
  __syncthreads();
  return true;
}

__device__ void form_basis(Shared& shared, const Place& at, const Factor& f, const qr::Scratch& s) {
  for (std::size_t k = threadIdx.x; k < s.rank * s.rank; k += kThreads) {
    const std::size_t i = k % s.rank;
    const std::size_t j = k / s.rank;
    if (i <= j) s.column(j)[i] = qr::head_entry(i, j);
  }
  __syncthreads();
  for (std::size_t j = 0; j < s.rank; ++j) {
    for (std::size_t first = 0; first < j; first += kSums) {
      const std::size_t m = first + at.group;
      const bool busy = m < j;
      const double sum = dot(shared, at, busy, s.column(busy ? m : j), s.column(j), j, s.length);
      if (busy && at.lane == 0) s.gram[j * s.rank + m] = sum;
    }
    __syncthreads();
    for (std::size_t i = threadIdx.x; i < j; i += kThreads) s.t[j * s.rank + i] = qr::t_entry(s, i, j);
    if (threadIdx.x == 0) s.t[j * s.rank + j] = s.tau[j];
    __syncthreads();
  }
  for (std::size_t k = threadIdx.x; k < s.rank * s.rank; k += kThreads)
    s.gram[k] = qr::top_entry(s, k % s.rank, k / s.rank);
  __syncthreads();
  for (std::size_t place = threadIdx.x; place < f.count(); place += kThreads)
    f.data[place] = static_cast<float>(qr::basis_entry(s, place % s.length, place / s.length));
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads) orthonormalise_factors(const FactorBatch __grid_constant__ batch) {
  __shared__ Shared shared;
  const Place at;
  for (unsigned number = blockIdx.x; number < batch.size(); number += gridDim.x) {
    const auto& [job, scratch] = batch[number];
    const qr::Scratch s = qr::Scratch::at(scratch, job.factor.length, job.factor.rank);
    load(job.factor, s);
    factorise(shared, at, s);
    if (replace_dependent(shared, job, s)) {
      load(job.factor, s);
      factorise(shared, at, s);
    }
    form_basis(shared, at, job.factor, s);
  }
}

void launch_batch(const FactorBatch& batch, StreamRef stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(std::min(static_cast<unsigned>(batch.size()), cuda::most_blocks(kMostBlocks, kThreads)));
  config.blockDim = dim3(kThreads);
  config.stream = cuda::native(stream);
  cuda::check(cudaLaunchKernelEx(&config, orthonormalise_factors, batch), "orthonormalise_factors");
}

}  // namespace

void orthonormalise(std::span<const kernels::OrthonormaliseJob> jobs, StreamRef stream) {
  std::size_t doubles = 0;
  for (const auto& [factor, key] : jobs) doubles += qr::Scratch::doubles(factor.length, factor.rank);
  const Scratch scratch(doubles * sizeof(double), stream);
  auto* next = reinterpret_cast<double*>(scratch.data());
  FactorBatch batch;
  for (const kernels::OrthonormaliseJob& job : jobs) {
    if (job.factor.count() == 0) continue;
    batch.add({job, next}, 1);
    next += qr::Scratch::doubles(job.factor.length, job.factor.rank);
    if (!batch.is_full()) continue;
    launch_batch(batch, stream);
    batch.clear();
  }
  if (batch.size() > 0) launch_batch(batch, stream);
}

}  // namespace gradwire::device
