#include "compress/sparse/block_topk.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "compress/kernels.hpp"
#include "compress/sparse/scanner.hpp"

namespace gradwire::sparse {

std::string BlockTopK::spec() const {
  return fmt::format("block_topk({},block={},norm={})", density_.spec(), block_, norm_ == Norm::l2 ? "l2" : "linf");
}

std::size_t BlockTopK::max_entries(std::size_t count) const {
  return std::min(density_.of(blocks(count)) * block_, count);
}

/// l2: the m blocks of n with the largest sums of squares hold at least m/n of the whole. linf: a chosen block holds at
/// least t^2, t the least norm chosen, and one left out at most B t^2.
double BlockTopK::kept(std::size_t count) const {
  if (count == 0) return 1;
  const auto n = static_cast<double>(blocks(count));
  const auto m = static_cast<double>(density_.of(blocks(count)));
  if (norm_ == Norm::l2) return m / n;
  return m / (m + (n - m) * static_cast<double>(std::min(block_, count)));
}

std::size_t BlockTopK::select(const Choice& choice, const Entries& out) const {
  const ConstTensor& x = choice.x;
  const std::size_t n = blocks(x.count);
  const std::size_t m = density_.of(n);
  if (m == 0) return 0;
  const Scratch memory = scratch(Use::survivors, n);
  std::uint32_t* const norms = memory.index;
  const bool in_place = static_cast<const void*>(choice.residual) == x.data;
  const std::uint32_t most = isa::kernels<SparseKernels>().block_norms(
      {x, block_, norm_ == Norm::linf, norms, in_place ? nullptr : choice.residual});
  if (most >= kInfinity) refuse_non_finite(x, {0, x.count, choice.spec});
  // Sums of squares beyond f32 could not be told from each other.
  for (std::size_t b = 0; b < n; ++b) {
    if (norms[b] < kInfinity) continue;
    const std::size_t first = b * block_;
    refuse_non_finite(x, {first, std::min(block_, x.count - first), choice.spec,
                          "is above 2^59, whose sums of squares may leave f32: norm=linf takes any"});
  }
  std::copy_n(norms, n, memory.keys);
  Cut cut = cut_keys(memory.keys, n, m);
  std::size_t taken = 0;
  for (std::size_t b = 0; b < n; ++b) {
    if (norms[b] < cut.threshold || !cut.takes(std::bit_cast<float>(norms[b]))) continue;
    const std::size_t first = b * block_;
    const ConstTensor block = x.slice(first, std::min(block_, x.count - first));
    isa::kernels<ElementKernels>().cast_decode(
        {static_cast<const std::byte*>(block.data), block.dtype, {out.value + taken, block.count}, Write::assign});
    for (std::size_t i = 0; i < block.count; ++i) out.index[taken + i] = static_cast<std::uint32_t>(first + i);
    taken += block.count;
  }
  return taken;
}

}  // namespace gradwire::sparse
