#pragma once
#include <cstddef>
#include <cstdint>

#include "gradwire/types.hpp"

/// \file The inner loops of sparsifiers, as a family of kernels (compress/isa.hpp). All memory is host memory, any
/// alignment. The magnitude of an element is its f32 bits without the sign, an integer: it orders as |x| does, with
/// infinity and then NaN on top.
namespace gradwire::sparse {

inline constexpr std::uint32_t kInfinity = 0x7f80'0000;
inline constexpr std::uint32_t kMagnitudeMask = 0x7fff'ffff;

/// Elements of at least some magnitude, in order; and, of all elements, copies.
struct Scan {
  ConstTensor x;
  std::uint32_t base;       ///< place of x's first element
  std::uint32_t threshold;  ///< least magnitude, at most kMagnitudeMask
  std::uint32_t* index;     ///< room for x.count + 16
  float* value;             ///< as index
  float* residual;          ///< gets x as f32; null, or x, for none
};
struct Scanned {
  std::size_t found;
  std::uint32_t most;  ///< largest magnitude of all elements
};

/// How often each value of some bits of the magnitude occurs, among elements whose higher bits are `prefix`.
struct Histogram {
  ConstTensor x;
  unsigned shift;  ///< of the lowest bit counted
  unsigned width;  ///< at most kHistogramBits
  std::uint32_t prefix;
  std::uint32_t* counts;  ///< 2^width, added to
};
inline constexpr unsigned kHistogramBits = 11;

/// Norms of blocks of elements (the last may be short), as magnitudes; and, of all elements, copies.
struct BlockNorms {
  ConstTensor x;
  std::size_t block;  ///< a multiple of 16
  bool largest;       ///< max |x|, else the l2 norm as docs/wire-format.md 1.2 sums it
  std::uint32_t* norms;
  float* residual;  ///< as in Scan
  bool streamed;    ///< the residual is written around the caches, where its address allows
};

}  // namespace gradwire::sparse

namespace gradwire {

struct SparseKernels {
  sparse::Scanned (*scan)(const sparse::Scan&);
  void (*histogram)(const sparse::Histogram&);
  std::uint32_t (*block_norms)(const sparse::BlockNorms&);  ///< the largest magnitude of all elements
};

}  // namespace gradwire
