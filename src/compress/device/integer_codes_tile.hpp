#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "compress/device/integer_codes.hpp"
#include "compress/device/memory.hpp"
#include "compress/sparse/index_coding.hpp"

/// \file What single threads of the kernels of integer coders do.
namespace gradwire::device {

/// As many codes as a row part has elements: 4, 8 or 16 bytes.
template <class T>
struct alignas(kRowPart * sizeof(T)) FourCodes {
  T at[kRowPart];
};

template <class T>
GRADWIRE_HD void load_codes_as(const void* data, std::size_t first, std::uint32_t* codes) {
  const T* const at = static_cast<const T*>(data) + first;
  FourCodes<T> four;
  if (GRADWIRE_ROWS_AT_ONCE && reinterpret_cast<std::uintptr_t>(at) % sizeof four == 0) {
    four = load_part<FourCodes<T>>(at);
  } else {
    GRADWIRE_UNROLL
    for (std::size_t c = 0; c < kRowPart; ++c) four.at[c] = at[c];
  }
  GRADWIRE_UNROLL
  for (std::size_t c = 0; c < kRowPart; ++c) codes[c] = four.at[c];
}
template <class T>
GRADWIRE_HD void store_codes_as(void* data, std::size_t first, const std::uint32_t* codes) {
  T* const at = static_cast<T*>(data) + first;
  FourCodes<T> four;
  GRADWIRE_UNROLL
  for (std::size_t c = 0; c < kRowPart; ++c) four.at[c] = static_cast<T>(codes[c]);
  if (GRADWIRE_ROWS_AT_ONCE && reinterpret_cast<std::uintptr_t>(at) % sizeof four == 0)
    return store_part<FourCodes<T>>(at, four);
  GRADWIRE_UNROLL
  for (std::size_t c = 0; c < kRowPart; ++c) at[c] = four.at[c];
}

/// kRowPart codes of u8, u16 or u32 from `first` on.
GRADWIRE_HD inline void load_codes(const ConstTensor& codes, std::size_t first, std::uint32_t* out) {
  if (codes.dtype == DType::u8) return load_codes_as<std::uint8_t>(codes.data, first, out);
  if (codes.dtype == DType::u16) return load_codes_as<std::uint16_t>(codes.data, first, out);
  load_codes_as<std::uint32_t>(codes.data, first, out);
}
GRADWIRE_HD inline void store_codes(const Tensor& codes, std::size_t first, const std::uint32_t* values) {
  if (codes.dtype == DType::u8) return store_codes_as<std::uint8_t>(codes.data, first, values);
  if (codes.dtype == DType::u16) return store_codes_as<std::uint16_t>(codes.data, first, values);
  store_codes_as<std::uint32_t>(codes.data, first, values);
}

/// The sum of squares of a column, 0 to 15, of `size` elements from `first` on.
[[nodiscard]] GRADWIRE_HD inline double column_squares(const ConstTensor& x, std::size_t first, std::size_t size,
                                                       std::size_t column) {
  double sum = 0;
#ifdef __CUDA_ARCH__
#pragma unroll 8
#endif
  for (std::size_t i = column; i < size; i += 16) {
    const double value = load_element(x.data, x.dtype, first + i);
    sum += value * value;
  }
  return sum;
}

/// The largest magnitude of a row part, as bits; and the residual's copy of it.
[[nodiscard]] GRADWIRE_HD inline std::uint32_t see_values(const ConstTensor& x, std::size_t part, float* residual) {
  const std::size_t first = part * kRowPart;
  const std::size_t n = there_from(x.count, first);
  float values[kRowPart] = {};
  load_row(x.data, x.dtype, first, n, values);
  std::uint32_t most = 0;
  GRADWIRE_UNROLL
  for (std::size_t c = 0; c < kRowPart; ++c) {
    const std::uint32_t magnitude = magnitude_bits(values[c]);
    most = magnitude > most ? magnitude : most;
  }
  if (residual != nullptr && n > 0) store_row(residual, DType::f32, first, n, values);
  return most;
}

/// Whether a tensor whose largest magnitude this is can be drawn from.
[[nodiscard]] GRADWIRE_HD inline bool can_draw(const DrawnValues& drawn, std::uint32_t most) {
  const std::size_t largest = drawn.is_scaled ? (drawn.count + drawn.chosen - 1) / drawn.chosen : 1;
  return std::isfinite(std::bit_cast<float>(most) * static_cast<float>(largest));
}

GRADWIRE_HD inline void draw_value(const DrawnValues& drawn, const ConstTensor& x, std::size_t j, bool can,
                                   float* codes, float* residual) {
  const auto [place, size] = sparse::Strata(j, drawn.chosen, drawn.count).next(drawn.keys);
  const float value = load_element(x.data, x.dtype, place);
  const float sent = !can ? kNaN : drawn.is_scaled ? value * static_cast<float>(size) : value;
  codes[j] = sent;
  if (residual != nullptr) residual[place] = value - sent;
}

}  // namespace gradwire::device
