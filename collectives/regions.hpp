#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace gradwire {

// Balanced regions of a bucket's index space (its items laid end to end), one per rank, for `sparse_scatter`.
//
// A rank's sketch is what the others hear of its choice: the number of its entries, then n + 1 places that cut them
// into n parts as equal as can be: of the first entry, of every one that begins a part, and behind the last. Between
// two of them entries count as evenly spread.

[[nodiscard]] constexpr std::size_t sketch_size(std::size_t ranks) noexcept { return ranks + 2; }

/// Cuts 0 = cut[0] <= ... <= cut[n] = total such that each region holds about as many of all ranks' entries as any
/// other; even ones where there are no entries. `sketches` has a row for each of n ranks. Integer
/// arithmetic: all ranks get the same.
void balance_regions(std::span<const std::uint64_t> sketches, std::uint64_t total, std::span<std::uint64_t> cuts);

/// Moves cuts to multiples of 256 elements of the items that they fall in, where all regions are wide enough not to
/// notice, so that what comes in whole blocks is not cut apart. `starts`: of the items, and the end of the last.
void align_cuts(std::span<std::uint64_t> cuts, std::span<const std::size_t> starts);

}  // namespace gradwire
