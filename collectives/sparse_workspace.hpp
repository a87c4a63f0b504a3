#pragma once
#include <span>

#include "gradwire/allreduce.hpp"

namespace gradwire {

/// How the workspace of `sparse_scatter` is divided:
///
///     my entries | an owner's choice | sketches | messages out, later owners' sums | messages in | f32 scratch
///
/// Regions are cut anew in every run; these sizes suit all cuts. Cuts make at most ranks - 1 parts more than there are
/// items, and no part takes more than the largest item would.
class SparseWorkspace {
 public:
  SparseWorkspace(std::span<const BucketItem> items, int ranks, int rank);

  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  void use(Bytes memory) noexcept { memory_ = memory; }

  /// The most entries that this rank may choose.
  [[nodiscard]] std::size_t max_entries() const noexcept { return max_entries_; }
  /// Of my entries, `count` from the `first` one on.
  [[nodiscard]] Entries mine(std::size_t first, std::size_t count) const noexcept {
    return entries_at(0, max_entries_, first, count);
  }
  [[nodiscard]] Entries choice(std::size_t count) const noexcept {
    return entries_at(choice_first_, max_choice_, 0, count);
  }
  [[nodiscard]] Bytes sketch(std::size_t rank) const noexcept {
    return memory_.slice(sketch_first_ + rank * sketch_bytes_, sketch_bytes_);
  }
  [[nodiscard]] Bytes out() const noexcept { return memory_.slice(out_first_, out_bytes_); }
  [[nodiscard]] Bytes from_peer(std::size_t peer) const noexcept {
    return memory_.slice(in_first_ + (peer < rank_ ? peer : peer - 1) * in_bytes_, in_bytes_);
  }
  [[nodiscard]] Bytes scratch() const noexcept { return memory_.slice(scratch_first_, scratch_bytes_); }

  /// The most entries an owner sends of `count` elements of an item, if it sends `region_room` in all.
  [[nodiscard]] static std::size_t room(const BucketItem& item, std::size_t count, std::size_t region_room);
  /// Bytes that hold the frame of up to `entries` of `count` elements.
  [[nodiscard]] static std::size_t frame_bytes(const BucketItem& item, std::size_t count, std::size_t entries);
  /// Bytes before the frames of so many pieces: a u32 for each, how many entries it has.
  [[nodiscard]] static std::size_t preface_bytes(std::size_t pieces) noexcept;

 private:
  [[nodiscard]] Entries entries_at(std::size_t at, std::size_t room, std::size_t first,
                                   std::size_t count) const noexcept {
    auto* const index = reinterpret_cast<std::uint32_t*>(memory_.data + at);
    return {index + first, reinterpret_cast<float*>(index + room) + first, count};
  }

  Bytes memory_;
  std::size_t rank_;
  std::size_t max_entries_ = 0;
  std::size_t max_choice_ = 0;
  std::size_t sketch_bytes_ = 0;
  std::size_t out_bytes_ = 0;
  std::size_t in_bytes_ = 0;
  std::size_t scratch_bytes_ = 0;
  std::size_t choice_first_ = 0;
  std::size_t sketch_first_ = 0;
  std::size_t out_first_ = 0;
  std::size_t in_first_ = 0;
  std::size_t scratch_first_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace gradwire
