#pragma once
#include <cstddef>

namespace gradwire::device {

/// Pieces of one allocation.
class Carver {
 public:
  /// Where `n` of T begin: an offset.
  template <class T>
  std::size_t take(std::size_t n) noexcept {
    constexpr std::size_t kAlign = 256;
    const std::size_t at = bytes_;
    bytes_ += (n * sizeof(T) + kAlign - 1) / kAlign * kAlign;
    return at;
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::size_t bytes_ = 0;
};

}  // namespace gradwire::device
