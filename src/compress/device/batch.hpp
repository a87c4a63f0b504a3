#pragma once
#include <cstddef>

#include "base/host_device.hpp"

/// \file Several jobs in one launch (docs/adr/0010): they travel with its parameters, so nothing is copied before it.
namespace gradwire::device {

/// Jobs, and how many items of work each has. Items of all jobs are numbered one behind the other.
template <class Job, std::size_t capacity>
class Batch {
 public:
  Batch() noexcept {}  // NOLINT: most of its memory is not written

  [[nodiscard]] GRADWIRE_HD std::size_t size() const { return count_; }
  [[nodiscard]] bool is_full() const noexcept { return count_ == capacity; }
  [[nodiscard]] GRADWIRE_HD std::size_t items() const { return items_; }
  [[nodiscard]] GRADWIRE_HD const Job& operator[](std::size_t number) const { return jobs_[number].job; }
  /// Not of an empty one.
  void add(const Job& job, std::size_t items) noexcept {
    items_ += items;
    jobs_[count_].job = job;
    ends_[count_++] = items_;
  }
  void clear() noexcept { count_ = items_ = 0; }
  /// The job of an item, whose number within it `item` becomes. Jobs without items are nobody's.
  [[nodiscard]] GRADWIRE_HD const Job& find(std::size_t& item) const {
    std::size_t low = 0;
    for (std::size_t last = count_ - 1; low < last;) {
      const std::size_t middle = (low + last) / 2;
      if (item < ends_[middle]) {
        last = middle;
      } else {
        low = middle + 1;
      }
    }
    if (low > 0) item -= ends_[low - 1];
    return jobs_[low].job;
  }

 private:
  union Slot {
    Slot() noexcept {}  // NOLINT: as above
    Job job;
  };
  Slot jobs_[capacity];
  std::size_t ends_[capacity];
  std::size_t count_ = 0;
  std::size_t items_ = 0;  // of all
};

/// Jobs that fit in so many bytes, at least one.
template <class Job>
[[nodiscard]] constexpr std::size_t jobs_in(std::size_t bytes) noexcept {
  const std::size_t fit = (bytes - 2 * sizeof(std::size_t)) / (sizeof(Job) + sizeof(std::size_t));
  return fit < 1 ? 1 : fit;
}

/// Items of `of_frame` each, of frames that are alike: which frame an item is of, and its number there.
struct FrameItem {
  std::size_t frame;
  std::size_t item;
};
[[nodiscard]] constexpr FrameItem frame_item(std::size_t item, std::size_t of_frame) noexcept {
  return item < of_frame ? FrameItem{0, item} : FrameItem{item / of_frame, item % of_frame};
}

}  // namespace gradwire::device
