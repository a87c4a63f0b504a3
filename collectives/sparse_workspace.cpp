#include "collectives/sparse_workspace.hpp"

#include <algorithm>

#include "collectives/message.hpp"
#include "collectives/regions.hpp"
#include "compress/frame.hpp"

namespace gradwire {
namespace {

/// The frame of a part may round up where that of the whole does not.
constexpr std::size_t kSlack = 32;

}  // namespace

SparseWorkspace::SparseWorkspace(std::span<const BucketItem> items, int ranks, int rank)
    : rank_(static_cast<std::size_t>(rank)) {
  const auto n = static_cast<std::size_t>(ranks);
  std::size_t all_in = 0;
  std::size_t largest_in = 0;
  for (const BucketItem& item : items) {
    const std::size_t entries = item.compressor.sparsifier()->max_entries(item.count);
    const std::size_t frame = frame_bytes(item, item.count, entries);
    max_entries_ += entries;
    all_in += frame;
    largest_in = std::max(largest_in, frame);
    if (item.dtype != DType::f32) scratch_bytes_ += item.count * sizeof(float);
  }
  max_choice_ = (2 * max_entries_ + n - 1) / n;
  std::size_t all_sums = 0;
  std::size_t largest_sums = 0;
  for (const BucketItem& item : items) {
    const std::size_t frame = frame_bytes(item, item.count, room(item, item.count, max_choice_));
    all_sums += frame;
    largest_sums = std::max(largest_sums, frame);
  }
  const std::size_t envelopes = n * (kEnvelopeBytes + frame::kAlign) + preface_bytes(items.size() + n);
  out_bytes_ = std::max(all_in + (n - 1) * largest_in, all_sums + (n - 1) * largest_sums) + envelopes;
  in_bytes_ = kEnvelopeBytes + preface_bytes(items.size()) + all_in;
  sketch_bytes_ = kEnvelopeBytes + frame::align_up(sketch_size(n) * sizeof(std::uint64_t));

  constexpr std::size_t kEntryBytes = sizeof(std::uint32_t) + sizeof(float);
  choice_first_ = frame::align_up(max_entries_ * kEntryBytes);
  sketch_first_ = choice_first_ + frame::align_up(max_choice_ * kEntryBytes);
  out_first_ = sketch_first_ + n * sketch_bytes_;
  in_first_ = out_first_ + out_bytes_;
  scratch_first_ = in_first_ + (n - 1) * in_bytes_;
  bytes_ = scratch_first_ + scratch_bytes_;
}

std::size_t SparseWorkspace::room(const BucketItem& item, std::size_t count, std::size_t region_room) {
  return std::min({count, region_room, 2 * item.compressor.sparsifier()->max_entries(item.count)});
}

std::size_t SparseWorkspace::frame_bytes(const BucketItem& item, std::size_t count, std::size_t entries) {
  return item.compressor.sparsifier()->max_frame_size(count, entries) + kSlack;
}

std::size_t SparseWorkspace::preface_bytes(std::size_t pieces) noexcept {
  return frame::align_up(pieces * sizeof(std::uint32_t));
}

}  // namespace gradwire
