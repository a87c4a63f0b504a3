#include "compress/vector_ops.hpp"

#include <algorithm>
#include <cassert>

#include "compress/isa.hpp"
#include "compress/kernels.hpp"
#include "compress/sparse/guess.hpp"

namespace gradwire::ops {

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
