#pragma once
#include <cstddef>
#include <utility>
#include <vector>

namespace gradwire {

/// First-in first-out queue that keeps its memory.
template <class T>
class Fifo {
 public:
  [[nodiscard]] bool empty() const noexcept { return head_ == items_.size(); }
  /// There has to be one.
  [[nodiscard]] T& front() noexcept { return items_[head_]; }
  void clear() noexcept {
    items_.clear();
    head_ = 0;
  }
  void push(T item) {
    if (items_.size() == items_.capacity() && head_ > 0) {  // room at the front comes before more memory
      items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(head_));
      head_ = 0;
    }
    items_.push_back(std::move(item));
  }
  T pop() {
    T item = std::move(items_[head_++]);
    if (head_ == items_.size()) {
      items_.clear();
      head_ = 0;
    }
    return item;
  }

 private:
  std::vector<T> items_;
  std::size_t head_ = 0;
};

}  // namespace gradwire
