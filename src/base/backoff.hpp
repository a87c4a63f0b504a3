#pragma once
#include <algorithm>
#include <chrono>
#include <thread>

namespace gradwire {

/// Growing pause between polls: yields first, so that a peer on the same core can run, then sleeps up to 100 us.
class Backoff {
 public:
  void pause() {
    if (++rounds_ <= kYields) {
      std::this_thread::yield();
      return;
    }
    std::this_thread::sleep_for(sleep_);
    sleep_ = std::min(sleep_ * 2, std::chrono::microseconds(100));
  }
  void reset() noexcept { *this = Backoff{}; }

 private:
  static constexpr int kYields = 200;
  int rounds_ = 0;
  std::chrono::microseconds sleep_{5};
};

}  // namespace gradwire
