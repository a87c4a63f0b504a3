#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>

#include "base/half.hpp"
#include "base/host_device.hpp"

#include "gradwire/types.hpp"

/// \file How device threads read and write: as many bytes at once as they may.
namespace gradwire::device {

/// Words are aligned: frames and planes start at multiples of 16 bytes, tiles at multiples of 4.
[[nodiscard]] GRADWIRE_HD inline std::uint32_t load_word(const std::byte* at) {
  std::uint32_t word;
#ifdef __CUDA_ARCH__
  word = *reinterpret_cast<const std::uint32_t*>(at);
#else
  std::memcpy(&word, at, sizeof word);
#endif
  return word;
}
GRADWIRE_HD inline void store_word(std::byte* at, std::uint32_t word) {
#ifdef __CUDA_ARCH__
  *reinterpret_cast<std::uint32_t*>(at) = word;
#else
  std::memcpy(at, &word, sizeof word);
#endif
}

/// load_f32() and store_f32() of memory that is aligned to its elements, as all device memory is.
[[nodiscard]] GRADWIRE_HD inline float load_element(const void* data, DType dtype, std::size_t i) {
#ifdef __CUDA_ARCH__
  if (dtype == DType::f32) return static_cast<const float*>(data)[i];
  const std::uint16_t bits = static_cast<const std::uint16_t*>(data)[i];
  return dtype == DType::f16 ? f32_from_f16(bits) : f32_from_bf16(bits);
#else
  return load_f32(data, dtype, i);
#endif
}
GRADWIRE_HD inline void store_element(void* data, DType dtype, std::size_t i, float value) {
#ifdef __CUDA_ARCH__
  if (dtype == DType::f32) {
    static_cast<float*>(data)[i] = value;
  } else {
    static_cast<std::uint16_t*>(data)[i] = dtype == DType::f16 ? f16_from_f32(value) : bf16_from_f32(value);
  }
#else
  store_f32(data, dtype, i, value);
#endif
}

/// Elements that are read and written at once, where memory lies so.
inline constexpr std::size_t kRowPart = 4;
[[nodiscard]] constexpr std::size_t row_parts(std::size_t count) noexcept { return (count + kRowPart - 1) / kRowPart; }

/// How many of `most` elements from `first` on a tensor of `count` has.
[[nodiscard]] constexpr std::size_t there_from(std::size_t count, std::size_t first,
                                               std::size_t most = kRowPart) noexcept {
  if (first >= count) return 0;
  return count - first < most ? count - first : most;
}

// Whether rows are read and written at once: on devices, and on the model, which sees whether they are aligned.
#if defined(__CUDA_ARCH__) || defined(GRADWIRE_DEVICE_MODEL)
#define GRADWIRE_ROWS_AT_ONCE 1
#else
#define GRADWIRE_ROWS_AT_ONCE 0
#endif
template <class Part>
GRADWIRE_HD Part load_part(const void* at) {
#ifdef __CUDA_ARCH__
  return *static_cast<const Part*>(at);
#else
  Part part;
  std::memcpy(&part, std::assume_aligned<alignof(Part)>(at), sizeof part);
  return part;
#endif
}
template <class Part>
GRADWIRE_HD void store_part(void* at, const Part& part) {
#ifdef __CUDA_ARCH__
  *static_cast<Part*>(at) = part;
#else
  std::memcpy(std::assume_aligned<alignof(Part)>(at), &part, sizeof part);
#endif
}
/// 16 bytes, and 8: nvcc makes one access of each.
struct alignas(16) FourFloats {
  float at[kRowPart];
};
struct alignas(16) FourWords {
  std::uint32_t at[kRowPart];
};
struct alignas(8) FourHalves {
  std::uint16_t at[kRowPart];
};

/// Elements beside one another, of which `n` of kRowPart are there: 16 or 8 bytes at once, where they lie so.
GRADWIRE_HD inline void load_row(const void* data, DType dtype, std::size_t first, std::size_t n, float* out) {
  const auto* const at = static_cast<const std::byte*>(data) + first * size_of(dtype);
  if (GRADWIRE_ROWS_AT_ONCE && n == kRowPart &&
      reinterpret_cast<std::uintptr_t>(at) % (kRowPart * size_of(dtype)) == 0) {
    if (dtype == DType::f32) {
      const FourFloats four = load_part<FourFloats>(at);
      GRADWIRE_UNROLL
      for (std::size_t c = 0; c < kRowPart; ++c) out[c] = four.at[c];
    } else {
      const FourHalves four = load_part<FourHalves>(at);
      GRADWIRE_UNROLL
      for (std::size_t c = 0; c < kRowPart; ++c) out[c] = load_element(four.at, dtype, c);
    }
    return;
  }
  GRADWIRE_UNROLL
  for (std::size_t c = 0; c < kRowPart; ++c)
    if (c < n) out[c] = load_element(data, dtype, first + c);
}
/// And back, rounded to nearest even; values beyond the dtype's range become its largest.
GRADWIRE_HD inline void store_row(void* data, DType dtype, std::size_t first, std::size_t n, const float* values) {
  auto* const at = static_cast<std::byte*>(data) + first * size_of(dtype);
  if (GRADWIRE_ROWS_AT_ONCE && n == kRowPart &&
      reinterpret_cast<std::uintptr_t>(at) % (kRowPart * size_of(dtype)) == 0) {
    if (dtype == DType::f32) {
      FourFloats four;
      GRADWIRE_UNROLL
      for (std::size_t c = 0; c < kRowPart; ++c) four.at[c] = values[c];
      store_part(at, four);
    } else {
      FourHalves four;
      GRADWIRE_UNROLL
      for (std::size_t c = 0; c < kRowPart; ++c) store_element(four.at, dtype, c, saturate(values[c], dtype));
      store_part(at, four);
    }
    return;
  }
  GRADWIRE_UNROLL
  for (std::size_t c = 0; c < kRowPart; ++c)
    if (c < n) store_element(data, dtype, first + c, saturate(values[c], dtype));
}

/// A magnitude as bits, which compare as magnitudes do: NaN is above Inf is above all else.
[[nodiscard]] constexpr std::uint32_t magnitude_bits(float value) noexcept {
  return std::bit_cast<std::uint32_t>(value) & 0x7fff'ffffu;
}

/// Of what cannot be decoded, or should not have been encoded.
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
GRADWIRE_HD inline void spoil_row(const Tensor& y, std::size_t first, std::size_t n) {
  constexpr float kValues[kRowPart] = {kNaN, kNaN, kNaN, kNaN};
  if (n > 0) store_row(y.data, y.dtype, first, n, kValues);
}

}  // namespace gradwire::device
