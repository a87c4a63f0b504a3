#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "base/half.hpp"
#include "base/host_device.hpp"

#include "gradwire/types.hpp"

/// \file How device threads read and write: as many bytes at once as they may. On hosts, where tests run what threads
/// do, an element at a time.
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

inline constexpr std::size_t kRowPart = 4;

/// Elements beside one another, of which `n` of kRowPart are there: 16 or 8 bytes at once, where they lie so.
GRADWIRE_HD inline void load_row(const void* data, DType dtype, std::size_t first, std::size_t n, float* out) {
#ifdef __CUDA_ARCH__
  const auto* const at = static_cast<const std::byte*>(data) + first * size_of(dtype);
  if (n == kRowPart && reinterpret_cast<std::uintptr_t>(at) % (kRowPart * size_of(dtype)) == 0) {
    if (dtype == DType::f32) {
      const float4 four = *reinterpret_cast<const float4*>(at);
      out[0] = four.x, out[1] = four.y, out[2] = four.z, out[3] = four.w;
    } else {
      const ushort4 four = *reinterpret_cast<const ushort4*>(at);
      const std::uint16_t bits[] = {four.x, four.y, four.z, four.w};
      GRADWIRE_UNROLL
      for (std::size_t c = 0; c < kRowPart; ++c) out[c] = load_element(bits, dtype, c);
    }
    return;
  }
#endif
  GRADWIRE_UNROLL
  for (std::size_t c = 0; c < kRowPart; ++c)
    if (c < n) out[c] = load_element(data, dtype, first + c);
}
/// And back, rounded to nearest even; values beyond the dtype's range become its largest.
GRADWIRE_HD inline void store_row(void* data, DType dtype, std::size_t first, std::size_t n, const float* values) {
#ifdef __CUDA_ARCH__
  auto* const at = static_cast<std::byte*>(data) + first * size_of(dtype);
  if (n == kRowPart && reinterpret_cast<std::uintptr_t>(at) % (kRowPart * size_of(dtype)) == 0) {
    if (dtype == DType::f32) {
      *reinterpret_cast<float4*>(at) = make_float4(values[0], values[1], values[2], values[3]);
    } else {
      std::uint16_t bits[kRowPart];
      GRADWIRE_UNROLL
      for (std::size_t c = 0; c < kRowPart; ++c) store_element(bits, dtype, c, saturate(values[c], dtype));
      *reinterpret_cast<ushort4*>(at) = make_ushort4(bits[0], bits[1], bits[2], bits[3]);
    }
    return;
  }
#endif
  GRADWIRE_UNROLL
  for (std::size_t c = 0; c < kRowPart; ++c)
    if (c < n) store_element(data, dtype, first + c, saturate(values[c], dtype));
}

/// Of what cannot be decoded, or should not have been encoded.
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
GRADWIRE_HD inline void spoil_row(const Tensor& y, std::size_t first, std::size_t n) {
  constexpr float kValues[kRowPart] = {kNaN, kNaN, kNaN, kNaN};
  if (n > 0) store_row(y.data, y.dtype, first, n, kValues);
}

}  // namespace gradwire::device
