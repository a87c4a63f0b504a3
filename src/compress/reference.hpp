#pragma once
#include <cstddef>

#include "base/half.hpp"

#include "gradwire/compressor.hpp"
#include "gradwire/types.hpp"

/// \file An element at a time: what the reference loops are written with.
namespace gradwire::reference {

inline float load(const void* data, DType dtype, std::size_t i) { return load_f32(data, dtype, i); }

inline void store(void* data, DType dtype, std::size_t i, float value) {
  store_f32(data, dtype, i, saturate(value, dtype));
}

/// `residual` may be null.
inline void store_residual(float* residual, std::size_t i, float value) {
  if (residual != nullptr) store(residual, DType::f32, i, value);
}

inline void put(Tensor y, Write write, std::size_t i, float value) {
  store(y.data, y.dtype, i, write == Write::add ? load(y.data, y.dtype, i) + value : value);
}

}  // namespace gradwire::reference
