#include "compress/vector_ops.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

#include "base/device.hpp"
#include "compress/common_range.hpp"
#include "compress/device/codecs.hpp"
#include "compress/device/integer_codes.hpp"
#include "compress/isa.hpp"
#include "compress/kernels.hpp"
#include "compress/sparse/guess.hpp"

namespace gradwire::ops {
namespace {

kernels::CastDecode move_job(const Convert& job, Write write) {
  return {static_cast<const std::byte*>(job.from.data), job.from.dtype, job.to, write};
}

}  // namespace

void zero(Tensor to, StreamRef stream) {
  if (to.count == 0) return;
  if (to.space == Space::device) return device::zero(to.data, to.bytes(), stream);
  std::memset(to.data, 0, to.bytes());
}

void copy(ConstTensor from, Tensor to, StreamRef stream) {
  assert(from.count == to.count && from.dtype == to.dtype);
  if (to.count == 0) return;
  if (to.space == Space::device) return device::copy(to.data, from.data, to.bytes(), stream);
  std::memcpy(to.data, from.data, to.bytes());
}

void convert(ConstTensor from, Tensor to, StreamRef stream) {
  if (to.space == Space::host) return convert(from, to);
  assert(from.count == to.count && from.space == to.space);
  device::move(move_job({from, to}, Write::assign), stream);
}

void add(ConstTensor x, Tensor y, StreamRef stream) {
  assert(x.count == y.count && x.space == y.space);
  if (y.space == Space::device) return device::move(move_job({x, y}, Write::add), stream);
  isa::kernels<ElementKernels>().cast_decode({static_cast<const std::byte*>(x.data), x.dtype, y, Write::add});
}

void scale_add(ConstTensor x, float scale, ConstTensor addend, Tensor out, StreamRef stream) {
  assert(x.count == out.count && x.space == out.space && out.dtype == DType::f32);
  const ScaleAdd job{x, scale, static_cast<const float*>(addend.data), static_cast<float*>(out.data)};
  if (out.space == Space::device) return device::scale_add(job, stream);
  isa::kernels<ElementKernels>().scale_add(job);
}

void scale(Tensor tensor, float factor, StreamRef stream) {
  if (tensor.space == Space::device) return device::scale(tensor, factor, stream);
  if (tensor.dtype == DType::f32) return scale_add(tensor, factor, nullptr, static_cast<float*>(tensor.data));
  constexpr std::size_t kBlock = 1024;
  std::array<float, kBlock> wide;
  for (std::size_t first = 0; first < tensor.count; first += kBlock) {
    const Tensor part = tensor.slice(first, std::min(kBlock, tensor.count - first));
    scale_add(part, factor, nullptr, wide.data());
    convert(ConstTensor(wide.data(), part.count), part);
  }
}

void copy_all(const JobList<CopyJob>& jobs, StreamRef stream) { device::copy(jobs, stream); }

void convert_all(const JobList<Convert>& jobs, StreamRef stream) {
  device::move(
      JobList<kernels::CastDecode>(jobs.size(), [&](std::size_t i) { return move_job(jobs[i], Write::assign); }),
      stream);
}

void add_all(const JobList<Convert>& jobs, StreamRef stream) {
  device::move(JobList<kernels::CastDecode>(jobs.size(), [&](std::size_t i) { return move_job(jobs[i], Write::add); }),
               stream);
}

void scale_add_all(const JobList<ScaleAdd>& jobs, StreamRef stream) { device::scale_add(jobs, stream); }

void find_non_finite(const JobList<FindNonFinite>& jobs, StreamRef stream) { device::find_non_finite(jobs, stream); }

void largest_of_rows(const float* first, std::size_t rows, std::size_t pitch, Tensor to, StreamRef stream) {
  if (to.count == 0) return;
  if (to.space == Space::device) return device::largest_of_rows(first, rows, pitch, to, stream);
  for (std::size_t i = 0; i < to.count; ++i) {
    float largest = first[i];
    for (std::size_t row = 1; row < rows; ++row) largest = larger_range(largest, first[row * pitch + i]);
    static_cast<float*>(to.data)[i] = largest;
  }
}

void scale_add(ConstTensor x, float scale, const float* addend, float* out) {
  assert(x.space == Space::host);
  isa::kernels<ElementKernels>().scale_add({x, scale, addend, out});
}

void convert(ConstTensor from, Tensor to) {
  assert(from.count == to.count && from.space == Space::host && to.space == Space::host);
  isa::kernels<ElementKernels>().cast_decode({static_cast<const std::byte*>(from.data), from.dtype, to, Write::assign});
}

void add(const float* x, float* y, std::size_t n) {
  isa::kernels<ElementKernels>().cast_decode(
      {reinterpret_cast<const std::byte*>(x), DType::f32, {y, n, DType::f32, Space::host}, Write::add});
}

bool all_finite(ConstTensor x) {
  assert(x.space == Space::host);
  return isa::kernels<ElementKernels>().all_finite(x);
}

double sum_squares(const float* x, std::size_t n) { return isa::kernels<ElementKernels>().sum_squares(x, n); }

Entries select_largest(ConstTensor x, Entries out) {
  assert(x.space == Space::host);
  const std::size_t k = std::min(out.count, x.count);
  out.count = 0;
  if (k == 0) return out;
  const sparse::Choice choice{x, nullptr, {}, "the largest of a sum"};
  sparse::Scanner scanner(choice);
  out.count = sparse::select_largest(choice, scanner, k, out);
  return out;
}

}  // namespace gradwire::ops
