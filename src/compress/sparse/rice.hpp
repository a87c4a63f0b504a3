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

/// Keeps the bits ahead in a word, so that a code does not wait for memory.
class RiceReader {
 public:
  RiceReader(const std::byte* data, std::size_t size, unsigned parameter) noexcept
      : data_(data), next_(data), end_(data + size), parameter_(parameter) {}

  /// False when the bytes end inside the code, or the number is 2^32 or more: it is the last call then.
  [[nodiscard]] bool next(std::uint64_t& value) noexcept {
    if (end_ - next_ < 8) return next_slowly(value);
    fill();
    const auto zeros = static_cast<unsigned>(std::countr_zero(word_ | std::uint64_t{1} << 63));
    const unsigned length = zeros + 1 + parameter_;
    if (length > kHeld) return next_slowly(value);
    value = std::uint64_t{zeros} << parameter_ | low_bits(word_ >> (zeros + 1));
    word_ >>= length;
    held_ -= length;
    return value >> 32 == 0;
  }

  /// Bits read so far.
  [[nodiscard]] std::uint64_t bit() const noexcept { return 8 * static_cast<std::uint64_t>(next_ - data_) - held_; }

 private:
  static constexpr unsigned kHeld = 56;    ///< bits that fill() leaves at least
  static constexpr unsigned kWindow = 57;  ///< bits of a word that are there whatever the bit it starts at

  /// Needs 8 bytes. Bits above those held may be set already: they are the ones that belong there.
  void fill() noexcept {
    std::uint64_t word;
    std::memcpy(&word, next_, sizeof word);
    word_ |= word << held_;
    next_ += (63 - held_) / 8;
    held_ |= kHeld;
  }

  /// Any code: one that fill() cannot hold, or in the last bytes. Past their end it sees zeros.
  [[nodiscard]] bool next_slowly(std::uint64_t& value) noexcept {
    const std::uint64_t end = 8 * static_cast<std::uint64_t>(end_ - data_);
    std::uint64_t at = bit();
    const std::uint64_t first = at;
    std::uint64_t window = peek(at);
    while (window == 0) {
      at += kWindow;
      if (at >= end) return false;
      window = peek(at);
    }
    at += static_cast<unsigned>(std::countr_zero(window));
    const std::uint64_t zeros = at - first;
    at += 1 + parameter_;
    if (at > end || zeros >> (32 - parameter_) != 0) return false;
    value = zeros << parameter_ | low_bits(peek(at - parameter_));
    word_ = peek(at);
    held_ = at % 8 == 0 ? 0 : static_cast<unsigned>(8 - at % 8);
    next_ = data_ + (at + 7) / 8;
    return true;
  }

  [[nodiscard]] std::uint64_t low_bits(std::uint64_t bits) const noexcept {
    return bits & ((std::uint64_t{1} << parameter_) - 1);
  }

  [[nodiscard]] std::uint64_t peek(std::uint64_t bit) const noexcept {
    const auto left = static_cast<std::size_t>(end_ - data_) - static_cast<std::size_t>(bit / 8);
    std::uint64_t word = 0;
    std::memcpy(&word, data_ + bit / 8, std::min<std::size_t>(left, 8));
    return word >> (bit % 8);
  }

  const std::byte* data_;
  const std::byte* next_;  ///< behind the bits held
  const std::byte* end_;
  unsigned parameter_;
  unsigned held_ = 0;
  std::uint64_t word_ = 0;
};

}  // namespace gradwire::sparse
