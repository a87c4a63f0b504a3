#include "compress/factor_ops.hpp"

#include <algorithm>

#include "compress/device/factor.hpp"
#include "compress/factor_steps.hpp"
#include "compress/isa.hpp"

namespace gradwire::ops {
namespace {

using qr::kSumLanes;
using qr::Scratch;

/// Sum of x[i] y[i] from `first` on.
double dot(const double* x, const double* y, std::size_t first, std::size_t length) {
  double sums[kSumLanes] = {};
  std::size_t i = first;
  for (; i < length && i % kSumLanes != 0; ++i) sums[i % kSumLanes] += x[i] * y[i];
  for (; i + kSumLanes <= length; i += kSumLanes) {
    for (std::size_t lane = 0; lane < kSumLanes; ++lane) sums[lane] += x[i + lane] * y[i + lane];
  }
  for (; i < length; ++i) sums[i % kSumLanes] += x[i] * y[i];
  std::size_t half = kSumLanes / 2;
  while (half >= length && half > 1) half /= 2;  // beyond, there are zeros
  for (; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  }
  return sums[0];
}

void fill_column(const Factor& factor, std::size_t j, const RandomKey& key) {
  const RandomStream random(key);
  float* const column = factor.column(j);
  for (std::size_t i = 0; i < factor.length; ++i) column[i] = qr::random_entry(random, j * factor.length + i);
}

/// Householder's QR: the columns become reflectors below their heads.
void factorise(const Factor& f, const Scratch& s) {
  for (std::size_t i = 0; i < f.count(); ++i) s.v[i] = double{f.data[i]};
  for (std::size_t j = 0; j < s.rank; ++j) {
    double* const reflector = s.column(j);
    const qr::Reflection r = qr::reflect(s, j, dot(reflector, reflector, j + 1, s.length));
    s.tau[j] = r.tau;
    s.independence[j] = r.independence;
    for (std::size_t k = j + 1; k < s.rank; ++k) s.dots[k] = dot(reflector, s.column(k), j + 1, s.length);
    for (std::size_t i = j + 1; i < s.length; ++i) reflector[i] *= r.inverse;
    for (std::size_t k = j + 1; k < s.rank; ++k) {
      double* const column = s.column(k);
      const double taken = qr::taken(s, r, j, k, s.dots[k]);
      column[j] -= taken;
      for (std::size_t i = j + 1; i < s.length; ++i) column[i] -= taken * reflector[i];
    }
  }
}

/// f = the first columns of the product of the reflectors.
void form_basis(const Factor& f, const Scratch& s) {
  for (std::size_t j = 0; j < s.rank; ++j) {
    for (std::size_t i = 0; i <= j; ++i) s.column(j)[i] = qr::head_entry(i, j);
  }
  for (std::size_t j = 0; j < s.rank; ++j) {
    for (std::size_t m = 0; m < j; ++m) s.gram[j * s.rank + m] = dot(s.column(m), s.column(j), j, s.length);
    for (std::size_t i = 0; i < j; ++i) s.t[j * s.rank + i] = qr::t_entry(s, i, j);
    s.t[j * s.rank + j] = s.tau[j];
  }
  for (std::size_t k = 0; k < s.rank; ++k) {
    for (std::size_t m = 0; m < s.rank; ++m) s.gram[k * s.rank + m] = qr::top_entry(s, m, k);
  }
  constexpr std::size_t kRows = 512;
  double entries[kRows];
  for (std::size_t first = 0; first < s.length; first += kRows) {
    const std::size_t n = std::min(kRows, s.length - first);
    for (std::size_t k = 0; k < s.rank; ++k) {  // as basis_entry()
      for (std::size_t i = 0; i < n; ++i) entries[i] = first + i == k ? 1 : 0;
      for (std::size_t m = 0; m < s.rank; ++m) {
        const double w = s.gram[k * s.rank + m];
        const double* const reflector = s.column(m) + first;
        for (std::size_t i = 0; i < n; ++i) entries[i] -= reflector[i] * w;
      }
      for (std::size_t i = 0; i < n; ++i) f.column(k)[first + i] = static_cast<float>(entries[i]);
    }
  }
}

}  // namespace

void times(const kernels::MatrixTimes& job) { isa::kernels<FactorKernels>().times(job); }
void transposed_times(const kernels::MatrixTimes& job) { isa::kernels<FactorKernels>().transposed_times(job); }

void times(std::span<const kernels::MatrixTimes> jobs, Space space, StreamRef stream) {
  if (space == Space::device) return device::times(jobs, stream);
  for (const kernels::MatrixTimes& job : jobs) times(job);
}

void transposed_times(std::span<const kernels::MatrixTimes> jobs, Space space, StreamRef stream) {
  if (space == Space::device) return device::transposed_times(jobs, stream);
  for (const kernels::MatrixTimes& job : jobs) transposed_times(job);
}

void expand(std::span<const kernels::ExpandJob> jobs, Space space, StreamRef stream) {
  if (space == Space::device) return device::expand(jobs, stream);
  for (const kernels::ExpandJob& job : jobs) {
    if (!isa::kernels<FactorKernels>().expand(job.expand)) *job.non_finite = 1;
  }
}

std::size_t orthonormalise_scratch_bytes(std::size_t length, std::size_t rank) noexcept {
  return Scratch::doubles(length, rank) * sizeof(double);
}

void orthonormalise(const Factor& factor, std::byte* scratch, const RandomKey& key) {
  if (factor.count() == 0) return;
  const Scratch s = Scratch::at(reinterpret_cast<double*>(scratch), factor.length, factor.rank);
  factorise(factor, s);
  bool all = true;
  for (std::size_t j = 0; j < factor.rank; ++j) {
    if (!qr::is_dependent(s, j)) continue;
    fill_column(factor, j, key);
    all = false;
  }
  if (!all) factorise(factor, s);
  form_basis(factor, s);
}

void orthonormalise(std::span<const kernels::OrthonormaliseJob> jobs, std::byte* scratch, Space space,
                    StreamRef stream) {
  if (space == Space::device) return device::orthonormalise(jobs, stream);
  for (const auto& [factor, key] : jobs) orthonormalise(factor, scratch, key);
}

void fill_random(const Factor& factor, const RandomKey& key) {
  for (std::size_t j = 0; j < factor.rank; ++j) fill_column(factor, j, key);
}

}  // namespace gradwire::ops
