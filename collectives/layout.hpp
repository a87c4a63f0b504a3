#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "gradwire/allreduce.hpp"

namespace gradwire {

/// A contiguous part of one item: what one frame carries.
struct Piece {
  std::uint32_t item = 0;
  std::size_t first = 0;  ///< element of the item
  std::size_t count = 0;
  std::size_t scratch_first = 0;  ///< f32 element in its segment's scratch, for 16-bit items
};

/// Cuts a bucket (its items laid end to end) into chunks, one per owner, and every chunk into the same number of
/// segments. Cuts fall on multiples of each compressor's block, so that values do not depend on them. Pure: all ranks
/// that know the items compute the same layout.
class Layout {
 public:
  /// `other` compresses the same pieces on some of their ways: cuts suit its blocks too.
  Layout(std::span<const BucketItem> items, int chunks, std::size_t segment_bytes, const Compressor* other = nullptr);

  [[nodiscard]] int segments() const noexcept { return segments_; }
  /// In bucket order; empty where the chunk is shorter than its segments.
  [[nodiscard]] std::span<const Piece> pieces(int chunk, int segment) const noexcept;
  /// Bytes that hold the message of any segment of `chunk`: envelope and frames.
  [[nodiscard]] std::size_t max_message_bytes(int chunk) const noexcept;
  /// The same with the other compressor's frames of the items' dtypes.
  [[nodiscard]] std::size_t max_other_bytes(int chunk) const noexcept;
  /// Bytes of f32 scratch that any segment of `chunk` needs, a multiple of 16.
  [[nodiscard]] std::size_t max_scratch_bytes(int chunk) const noexcept;

 private:
  struct Range {
    std::size_t first = 0;
    std::size_t last = 0;
  };
  [[nodiscard]] std::size_t snap(std::span<const BucketItem> items, std::size_t position) const;
  void add_pieces(std::span<const BucketItem> items, Range elements);

  const Compressor* other_;
  int segments_ = 1;
  std::vector<Piece> pieces_;
  std::vector<Range> ranges_;  // of pieces_, by chunk * segments_ + segment
  std::vector<std::size_t> message_bytes_;
  std::vector<std::size_t> other_bytes_;
  std::vector<std::size_t> scratch_bytes_;
};

}  // namespace gradwire
