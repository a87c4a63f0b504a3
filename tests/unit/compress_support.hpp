#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/half.hpp"
#include "compress/isa.hpp"

#include "gradwire/compressor.hpp"
#include "gradwire/error.hpp"

namespace gradwire::testing {

inline constexpr DType kDTypes[] = {DType::f32, DType::f16, DType::bf16};

/// Elements of any dtype, `shift` bytes away from an aligned address, with guard bytes around them.
class Values {
 public:
  Values(std::size_t count, DType dtype, std::size_t shift = 0)
      : bytes_(count * size_of(dtype) + shift + 2 * kGuard, std::byte{0xA5}),
        count_(count),
        dtype_(dtype),
        first_(kGuard + shift) {}
  Values(const std::vector<float>& values, DType dtype, std::size_t shift = 0) : Values(values.size(), dtype, shift) {
    for (std::size_t i = 0; i < count_; ++i) set(i, values[i]);
  }

  [[nodiscard]] Tensor tensor() { return {bytes_.data() + first_, count_, dtype_}; }
  [[nodiscard]] ConstTensor tensor() const { return {bytes_.data() + first_, count_, dtype_}; }
  [[nodiscard]] const std::vector<std::byte>& bytes() const { return bytes_; }

  [[nodiscard]] float get(std::size_t i) const {
    const std::byte* p = bytes_.data() + first_ + i * size_of(dtype_);
    if (dtype_ == DType::f32) return read<float>(p);
    return dtype_ == DType::f16 ? f32_from_f16(read<std::uint16_t>(p)) : f32_from_bf16(read<std::uint16_t>(p));
  }
  void set(std::size_t i, float value) {
    std::byte* p = bytes_.data() + first_ + i * size_of(dtype_);
    if (dtype_ == DType::f32) return write(p, value);
    write(p, dtype_ == DType::f16 ? f16_from_f32(value) : bf16_from_f32(value));
  }
  [[nodiscard]] std::vector<float> floats() const {
    std::vector<float> all(count_);
    for (std::size_t i = 0; i < count_; ++i) all[i] = get(i);
    return all;
  }

 private:
  static constexpr std::size_t kGuard = 64;
  template <class T>
  static T read(const std::byte* p) {
    T value;
    std::memcpy(&value, p, sizeof value);
    return value;
  }
  template <class T>
  static void write(std::byte* p, T value) {
    std::memcpy(p, &value, sizeof value);
  }

  std::vector<std::byte> bytes_;
  std::size_t count_;
  DType dtype_;
  std::size_t first_;
};

/// What one encode gave.
struct Encoded {
  std::vector<std::byte> frame;
  std::vector<float> residual;

  [[nodiscard]] ConstBytes bytes() const { return {frame.data(), frame.size()}; }
};

inline Encoded encode(const Compressor& compressor, ConstTensor x, const RandomKey& key = {}) {
  Encoded out;
  out.frame.assign(compressor.max_frame_size(x.count, x.dtype), std::byte{0x5A});
  out.residual.resize(x.count + 1);
  const std::size_t size =
      compressor.encode(x, {out.frame.data(), out.frame.size()}, {out.residual.data(), x.count}, key);
  out.residual.resize(x.count);
  EXPECT_LE(size, out.frame.size());
  out.frame.resize(size);
  return out;
}

/// Decoded to f32.
inline std::vector<float> decode(const Compressor& compressor, const Encoded& encoded, std::size_t count) {
  std::vector<float> y(count + 1);
  EXPECT_EQ(compressor.decode(encoded.bytes(), {y.data(), count}, Write::assign), encoded.frame.size());
  y.resize(count);
  return y;
}

/// The code of the Error that `call` throws; ok when it throws none.
template <class Call>
Errc code_of(Call call, std::string* message = nullptr) {
  try {
    call();
  } catch (const Error& error) {
    if (message != nullptr) *message = error.what();
    return error.code();
  }
  return Errc::ok;
}

/// Gradients of many kinds, a run of each: normal, small ones among large, exact ties, constant, zero, denormal, signed
/// zeros. All are finite in every dtype.
inline std::vector<float> mixed_gradients(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  for (std::size_t i = 0; i < count; ++i) {
    const float v = normal(engine);
    switch ((i / 37 + seed) % 9) {
      case 0:
      case 1:
      case 2: x[i] = v; break;
      case 3: x[i] = v * std::exp2(-10.0f * std::fabs(normal(engine))); break;
      case 4: x[i] = std::rint(v * 4.0f) * 0.5f; break;
      case 5: x[i] = -0.375f; break;
      case 6: x[i] = i % 2 == 0 ? 0.0f : -0.0f; break;
      case 7: x[i] = v * 0x1p-130f; break;
      default: x[i] = v * 1000.0f; break;
    }
  }
  return x;
}

inline std::vector<float> normal_gradients(std::size_t count, unsigned seed, float deviation = 1.0f) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> x(count);
  std::generate(x.begin(), x.end(), [&] { return normal(engine); });
  return x;
}

/// Switches the instruction set for a scope.
class ScopedIsa {
 public:
  explicit ScopedIsa(std::string_view name) : before_(isa::current()) { isa::select(name); }
  ScopedIsa(const ScopedIsa&) = delete;
  ScopedIsa& operator=(const ScopedIsa&) = delete;
  ~ScopedIsa() { isa::select(before_); }

 private:
  std::string_view before_;
};

}  // namespace gradwire::testing
