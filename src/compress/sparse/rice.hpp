#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

/// \file Rice codes a word at a time: a number g of parameter b is g >> b zero bits, a one, and the low b bits of g;
/// bits go from the lowest of each byte up.
namespace gradwire::sparse {

class RiceWriter {
 public:
  RiceWriter(std::byte* out, unsigned parameter) noexcept : out_(out), parameter_(parameter) {}

  void put(std::uint32_t value) noexcept {
    std::uint64_t zeros = value >> parameter_;
    for (; zeros >= 32; zeros -= 32) put_bits(0, 32);
    const std::uint64_t low = value & ((std::uint64_t{1} << parameter_) - 1);
    put_bits((low << 1 | 1) << zeros, static_cast<unsigned>(zeros) + 1 + parameter_);
  }

  /// Writes what is pending; returns the end, a multiple of 8 bytes from the start.
  std::byte* finish() noexcept {
    if (used_ != 0) store();
    return out_;
  }

 private:
  /// At most 64 bits; those above `count` are zero.
  void put_bits(std::uint64_t bits, unsigned count) noexcept {
    word_ |= bits << used_;
    if (used_ + count < 64) {
      used_ += count;
      return;
    }
    const std::uint64_t rest = used_ == 0 ? 0 : bits >> (64 - used_);
    store();
    word_ = rest;
    used_ = used_ + count - 64;
  }
  void store() noexcept {
    std::memcpy(out_, &word_, sizeof word_);
    out_ += sizeof word_;
  }

  std::byte* out_;
  unsigned parameter_;
  std::uint64_t word_ = 0;
  unsigned used_ = 0;
};

/// Reads from a bit of `size` bytes on; past their end it sees zeros.
class RiceReader {
 public:
  RiceReader(const std::byte* data, std::size_t size, unsigned parameter, std::uint64_t bit) noexcept
      : data_(data), size_(size), parameter_(parameter), bit_(bit) {}

  /// False when the bytes end inside the code, or the number is 2^32 or more.
  [[nodiscard]] bool next(std::uint64_t& value) noexcept {
    std::uint64_t zeros = 0;
    std::uint64_t window = peek();
    while (window == 0) {
      zeros += kWindow;
      bit_ += kWindow;
      if (bit_ >= 8 * std::uint64_t{size_}) return false;
      window = peek();
    }
    const auto skip = static_cast<unsigned>(std::countr_zero(window)) + 1;
    zeros += skip - 1;
    bit_ += skip;
    window = skip + parameter_ <= kWindow ? window >> skip : peek();
    bit_ += parameter_;
    if (zeros >> (32 - parameter_) != 0) return false;
    value = zeros << parameter_ | (window & ((std::uint64_t{1} << parameter_) - 1));
    return bit_ <= 8 * std::uint64_t{size_};
  }

  [[nodiscard]] std::uint64_t bit() const noexcept { return bit_; }

 private:
  /// Bits of a window that are there whatever the bit it starts at.
  static constexpr unsigned kWindow = 57;

  [[nodiscard]] std::uint64_t peek() const noexcept {
    const std::size_t byte = bit_ / 8;
    std::uint64_t word = 0;
    if (byte + 8 <= size_) {
      std::memcpy(&word, data_ + byte, 8);
    } else if (byte < size_) {
      std::memcpy(&word, data_ + byte, size_ - byte);
    }
    return word >> (bit_ % 8);
  }

  const std::byte* data_;
  std::size_t size_;
  unsigned parameter_;
  std::uint64_t bit_;
};

}  // namespace gradwire::sparse
