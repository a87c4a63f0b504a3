#pragma once
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <string_view>

#include "base/fail.hpp"

namespace gradwire {

/// What makes every waiter of the process's n ranks fail, and keeps the ranks' memory apart from then on: an owner
/// whose wait fails may free its buffers at once, so nobody may touch another rank's memory but inside a Passage.
class AbortGate {
 public:
  /// Access to other ranks' memory. Throws Errc::aborted once the gate is shut.
  class Passage {
   public:
    explicit Passage(AbortGate& gate) : gate_(gate) {
      const std::lock_guard lock(gate_.mutex_);
      if (gate_.shut_.load(std::memory_order_relaxed)) throw Error(Errc::aborted, gate_.why_);
      ++gate_.passing_;
    }
    Passage(const Passage&) = delete;
    Passage& operator=(const Passage&) = delete;
    ~Passage() {
      const std::lock_guard lock(gate_.mutex_);
      if (--gate_.passing_ == 0) gate_.empty_.notify_all();
    }

   private:
    AbortGate& gate_;
  };

  void shut(int rank, std::string_view why) noexcept {
    std::unique_lock lock(mutex_);
    if (!shut_.load(std::memory_order_relaxed)) {
      try {
        why_ = fmt::format("rank {} aborted: {}", rank, why);
      } catch (const std::exception&) {
        why_.clear();  // out of memory: being shut has to do
      }
      shut_.store(true, std::memory_order_release);
    }
    empty_.wait(lock, [this] { return passing_ == 0; });
  }

  /// Throws Errc::aborted once the gate is shut and the last passage, no longer than the copies of an exchange, is
  /// over.
  void check() {
    if (!shut_.load(std::memory_order_acquire)) return;
    std::unique_lock lock(mutex_);
    empty_.wait(lock, [this] { return passing_ == 0; });
    throw Error(Errc::aborted, why_);
  }

 private:
  std::atomic<bool> shut_{false};
  std::mutex mutex_;
  std::condition_variable empty_;
  int passing_ = 0;
  std::string why_;
};

}  // namespace gradwire
