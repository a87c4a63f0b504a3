#pragma once
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "compress/device/sparse_frame.hpp"
#include "compress/sparse/cut.hpp"

/// \file What encoders of sparse frames choose, in device memory.
namespace gradwire::device {

/// Zero before a choice.
struct SelectState {
  std::uint32_t counts[std::size(sparse::kDigits)][1u << sparse::kHistogramBits];
  std::uint32_t prefix;  ///< of the threshold: the digits that are known
  std::uint32_t rank;    ///< of the last element chosen, 1 the largest, among those with this prefix
  std::uint32_t chosen;
  std::uint32_t guess;        ///< a threshold to be tried first
  std::uint32_t guess_holds;  ///< it is the one: nothing has to be searched for
  std::uint32_t closest;      ///< kMagnitudeMask less the least magnitude chosen, where a guess did not hold
  std::uint32_t most;         ///< largest magnitude of all elements; of the rule `random` only
};

/// Memory of a choice.
struct Selection {
  SelectState* state = nullptr;
  std::uint64_t* tiles = nullptr;   ///< room for select_tiles() of what is chosen from
  float* norms = nullptr;           ///< of blocks, where blocks are chosen
  std::uint32_t* places = nullptr;  ///< room for shape.most
  float* sample = nullptr;          ///< room for the guess's sample, where one is drawn
  SelectState* of_sample = nullptr;
};
[[nodiscard]] std::size_t select_tiles(std::size_t units) noexcept;

/// Enqueues the choice; also makes the residual a copy of x, where it is not x.
void select_entries(const SparseEncode& job, const Selection& selection, StreamRef stream);

}  // namespace gradwire::device
