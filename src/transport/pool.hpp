#pragma once
#include <memory>
#include <mutex>
#include <vector>

namespace gradwire {

/// Completions for reuse, so that steady state allocates nothing: an object is free again once nobody but the pool
/// holds it. Thread-safe.
template <class T>
class Pool {
 public:
  [[nodiscard]] std::shared_ptr<T> acquire() {
    const std::lock_guard lock(mutex_);
    for (std::size_t tried = 0; tried < objects_.size(); ++tried) {
      next_ = (next_ + 1) % objects_.size();
      if (objects_[next_].use_count() != 1) continue;
      // use_count() orders nothing. Taking the reference through a weak_ptr reads the count with acquire, so that what
      // the last holder did before letting go has happened before what the next one does.
      return std::weak_ptr<T>(objects_[next_]).lock();
    }
    objects_.push_back(std::make_shared<T>());
    return objects_.back();
  }

 private:
  std::mutex mutex_;
  std::vector<std::shared_ptr<T>> objects_;
  std::size_t next_ = 0;
};

}  // namespace gradwire
