#include "collectives/layout.hpp"

#include <algorithm>
#include <numeric>

#include "base/fail.hpp"
#include "collectives/message.hpp"
#include "compress/frame.hpp"

namespace gradwire {
namespace {

/// An envelope has 32 bits for a segment's number; and no bucket needs so many that its plan takes long to make.
constexpr std::size_t kMaxSegments = std::size_t{1} << 24;

std::size_t total_elems(std::span<const BucketItem> items) {
  std::size_t total = 0;
  for (const BucketItem& item : items) total += item.count;
  return total;
}

/// The least number of elements that is whole blocks of both.
std::size_t common_block(std::size_t a, std::size_t b) {
  return a == kWholeTensor || b == kWholeTensor ? kWholeTensor : std::lcm(a, b);
}

}  // namespace

/// The block boundary nearest to an element position of the bucket.
std::size_t Layout::snap(std::span<const BucketItem> items, std::size_t position) const {
  std::size_t start = 0;
  for (const BucketItem& item : items) {
    if (position < start + item.count) {
      const std::size_t block =
          common_block(item.compressor.traits().block_elems, other_ == nullptr ? 1 : other_->traits().block_elems);
      const std::size_t inside = position - start;
      if (block >= item.count) return 2 * inside < item.count ? start : start + item.count;
      return start + std::min((inside + block / 2) / block * block, item.count);
    }
    start += item.count;
  }
  return start;
}

Layout::Layout(std::span<const BucketItem> items, int chunks, std::size_t segment_bytes, const Compressor* other)
    : other_(other) {
  const auto n = static_cast<std::size_t>(chunks);
  const std::size_t total = total_elems(items);
  std::vector<std::size_t> cuts;
  for (std::size_t chunk = 0; chunk <= n; ++chunk) {
    cuts.push_back(chunk == n ? total : snap(items, total / n * chunk + total % n * chunk / n));
  }
  std::size_t longest = 0;
  for (std::size_t chunk = 0; chunk < n; ++chunk) longest = std::max(longest, cuts[chunk + 1] - cuts[chunk]);
  const std::size_t segment_elems = std::max<std::size_t>(segment_bytes / sizeof(float), 1);
  const std::size_t wanted = longest / segment_elems + (longest % segment_elems == 0 ? 0 : 1);
  require(wanted <= kMaxSegments, "{} elements in segments of {} are {} segments, at most {} are possible", longest,
          segment_elems, wanted, kMaxSegments);
  segments_ = static_cast<int>(std::max<std::size_t>(wanted, 1));

  const auto s = static_cast<std::size_t>(segments_);
  for (std::size_t chunk = 0; chunk < n; ++chunk) {
    const std::size_t length = cuts[chunk + 1] - cuts[chunk];
    std::size_t first = cuts[chunk];
    message_bytes_.push_back(0);
    other_bytes_.push_back(0);
    scratch_bytes_.push_back(0);
    for (std::size_t segment = 0; segment < s; ++segment) {
      const std::size_t target = cuts[chunk] + length / s * (segment + 1) + length % s * (segment + 1) / s;
      const std::size_t last =
          segment + 1 == s ? cuts[chunk + 1] : std::clamp(snap(items, target), first, cuts[chunk + 1]);
      add_pieces(items, {first, last});
      first = last;
    }
  }
}

void Layout::add_pieces(std::span<const BucketItem> items, Range elements) {
  const std::size_t begin = pieces_.size();
  std::size_t start = 0;
  std::size_t bytes = kEnvelopeBytes;
  std::size_t other_bytes = kEnvelopeBytes;
  std::size_t scratch = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const std::size_t first = std::max(elements.first, start);
    const std::size_t last = std::min(elements.last, start + items[i].count);
    if (first < last) {
      pieces_.push_back({static_cast<std::uint32_t>(i), first - start, last - first, scratch});
      // A 16-bit item's sum is built and re-encoded in f32, whose frame may be the larger one.
      bytes += std::max(items[i].compressor.max_frame_size(last - first, items[i].dtype),
                        items[i].compressor.max_frame_size(last - first, DType::f32));
      if (other_ != nullptr) other_bytes += other_->max_frame_size(last - first, items[i].dtype);
      if (items[i].dtype != DType::f32) scratch += last - first;
    }
    start += items[i].count;
  }
  ranges_.push_back({begin, pieces_.size()});
  message_bytes_.back() = std::max(message_bytes_.back(), bytes);
  other_bytes_.back() = std::max(other_bytes_.back(), other_bytes);
  scratch_bytes_.back() = std::max(scratch_bytes_.back(), frame::align_up(scratch * sizeof(float)));
}

std::span<const Piece> Layout::pieces(int chunk, int segment) const noexcept {
  const auto row = static_cast<std::size_t>(chunk) * static_cast<std::size_t>(segments_);
  const Range range = ranges_[row + static_cast<std::size_t>(segment)];
  return std::span(pieces_).subspan(range.first, range.last - range.first);
}

std::size_t Layout::max_message_bytes(int chunk) const noexcept {
  return message_bytes_[static_cast<std::size_t>(chunk)];
}

std::size_t Layout::max_other_bytes(int chunk) const noexcept { return other_bytes_[static_cast<std::size_t>(chunk)]; }

std::size_t Layout::max_scratch_bytes(int chunk) const noexcept {
  return scratch_bytes_[static_cast<std::size_t>(chunk)];
}

}  // namespace gradwire
