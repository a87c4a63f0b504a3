#pragma once
#include <cstddef>
#include <cstdint>

/// \file The inner loop of lgreco's program, as a family of kernels (compress/isa.hpp).
namespace gradwire::kernels {

/// One layer: after[b] = min over items i with bins[i] <= b of before[b - bins[i]] + costs[i], for b in [0, cells).
/// All sums are exact in T.
template <class T>
struct Relax {
  const T* before;
  T* after;
  const std::uint32_t* bins;  ///< rising; bins[0] is 0
  const T* costs;
  std::size_t items;
  std::size_t cells;
};

}  // namespace gradwire::kernels

namespace gradwire {

struct BinKernels {
  void (*relax_u32)(const kernels::Relax<std::uint32_t>&);
  void (*relax_f64)(const kernels::Relax<double>&);
};

}  // namespace gradwire
