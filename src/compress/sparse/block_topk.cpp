#include "compress/sparse/block_topk.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "compress/kernels.hpp"
#include "compress/sparse/guess.hpp"

namespace gradwire::sparse {
namespace {

/// Of so many the last-level cache keeps no residual until its next use: 32 MiB.
constexpr std::size_t kStreamedElems = std::size_t{1} << 23;
constexpr std::size_t kAhead = 8;  ///< blocks, each of which is too short for the hardware's own prefetchers

void prefetch(const ConstTensor& block) {
  constexpr std::size_t kLine = 64;
  for (std::size_t i = 0; i < block.bytes(); i += kLine)
    __builtin_prefetch(static_cast<const std::byte*>(block.data) + i);
}

}  // namespace

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

std::optional<device::SparseRule> BlockTopK::device_rule(std::size_t count, const RandomKey&) const {
  device::SparseRule rule{device::SparseRule::Kind::largest_blocks, density_.of(blocks(count))};
  rule.by_largest = norm_ == Norm::linf;
  return rule;
}

/// Norms of all blocks, as magnitudes; makes the copy that the residual starts as on the way.
const std::uint32_t* BlockTopK::norms(const Choice& choice) const {
  const ConstTensor& x = choice.x;
  const std::size_t n = blocks(x.count);
  std::uint32_t* const norms = word_scratch(n);
  const bool in_place = static_cast<const void*>(choice.residual) == x.data;
  const std::uint32_t most = isa::kernels<SparseKernels>().block_norms(
      {x, block_, norm_ == Norm::linf, norms, in_place ? nullptr : choice.residual, x.count >= kStreamedElems});
  if (most >= kInfinity) refuse_non_finite(x, {0, x.count, choice.spec});
  // Sums of squares beyond f32 could not be told from each other.
  for (std::size_t b = 0; b < n; ++b) {
    if (norms[b] < kInfinity) continue;
    const std::size_t first = b * block_;
    refuse_non_finite(x, {first, std::min(block_, x.count - first), choice.spec,
                          "is above 2^59, whose sums of squares may leave f32: norm=linf takes any"});
  }
  return norms;
}

/// Turns `chosen` places of blocks into the entries of these blocks; returns how many.
std::size_t BlockTopK::expand(const ConstTensor& x, std::size_t chosen, const Entries& out) const {
  const auto block_of = [&](std::size_t place) {
    const std::size_t first = place * block_;
    return x.slice(first, std::min(block_, x.count - first));
  };
  std::size_t taken = 0;
  for (std::size_t i = 0; i < chosen; ++i) {
    if (i + kAhead < chosen) prefetch(block_of(out.index[i + kAhead]));
    const ConstTensor block = block_of(out.index[i]);
    isa::kernels<ElementKernels>().cast_decode(
        {static_cast<const std::byte*>(block.data), block.dtype, {out.value + taken, block.count}, Write::assign});
    taken += block.count;
  }
  // From behind: what is written lies behind the places still to be read.
  for (std::size_t i = chosen; i-- != 0;) {
    const auto first = static_cast<std::uint32_t>(out.index[i] * block_);
    std::iota(out.index + i * block_, out.index + std::min((i + 1) * block_, taken), first);
  }
  return taken;
}

std::size_t BlockTopK::select(const Choice& choice, const Entries& out) const {
  const ConstTensor& x = choice.x;
  const std::size_t n = blocks(x.count);
  const std::size_t m = density_.of(n);
  if (m == 0) return 0;
  // As f32, magnitudes are themselves: the largest are found as topk finds them.
  const Choice of_norms{{norms(choice), n}, nullptr, choice.key, choice.spec};
  Scanner scanner(of_norms);
  const std::size_t chosen = select_largest(of_norms, scanner, m, out);
  return expand(x, chosen, out);
}

}  // namespace gradwire::sparse
