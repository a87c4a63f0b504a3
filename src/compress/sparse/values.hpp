#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "gradwire/compressor.hpp"

namespace gradwire::sparse {

/// How the values of chosen entries are coded: as they are, in 16 bits, or as a frame of another compressor.
class ValueCoding {
 public:
  enum class Kind : std::uint8_t { f32 = 0, f16 = 1, bf16 = 2, frame = 3 };

  ValueCoding() = default;
  /// Throws Errc::unsupported, naming `sparsifier`, for compressors that cannot code values.
  ValueCoding(const Compressor& compressor, std::string_view sparsifier);

  [[nodiscard]] Kind kind() const noexcept { return kind_; }
  /// What follows the sparsifier's own spec: "", "|f16", "|quantize(...)".
  [[nodiscard]] std::string suffix() const;

  /// Bytes that hold `count` values; exact for kinds other than `frame`.
  [[nodiscard]] std::size_t max_bytes(std::size_t count) const;
  /// Writes the section and returns its size; replaces each value by what the reader will see.
  std::size_t encode(float* values, std::size_t count, Bytes out, const RandomKey& key) const;

  /// Relative squared error of `count` values or fewer, as Compressor::error_bound.
  [[nodiscard]] double error_bound(std::size_t count) const;
  [[nodiscard]] bool unbiased() const noexcept { return !compressor_ || compressor_->traits().unbiased; }

  /// Compressor of kind `frame`.
  [[nodiscard]] const Compressor& compressor() const noexcept { return *compressor_; }

 private:
  Kind kind_ = Kind::f32;
  std::optional<Compressor> compressor_;  ///< none for f32
};

/// Of values of the kinds that are elements.
[[nodiscard]] constexpr DType dtype_of(ValueCoding::Kind kind) noexcept {
  switch (kind) {
    case ValueCoding::Kind::f16: return DType::f16;
    case ValueCoding::Kind::bf16: return DType::bf16;
    default: return DType::f32;
  }
}

/// The values of a frame, read in batches.
class ValueReader {
 public:
  /// `in` starts at the section and may be longer. Throws Errc::bad_frame when it is too short, has other padding than
  /// zeros, or is no frame of the coding's compressor. Frames are decoded at once, into memory that stays with the
  /// thread.
  ValueReader(const ValueCoding& coding, std::size_t count, ConstBytes in, std::string_view spec);

  /// Bytes of the section.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  /// Values [first, first + n) as f32, in `scratch` or where they are already.
  const float* read(std::size_t first, std::size_t n, float* scratch) const;

 private:
  ValueCoding::Kind kind_;
  const std::byte* data_;
  const float* decoded_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace gradwire::sparse
