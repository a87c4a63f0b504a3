#pragma once
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <iostream>
#include <vector>

#include "base/device.hpp"
#include "unit/compress_support.hpp"

#include "gradwire/buffer.hpp"

namespace gradwire::testing {

/// Skipped, and said so, where there is no device.
class DeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string problem = device::problem();
    if (problem.empty()) return;
    std::cout << "SKIPPED: no CUDA device to run on: " << problem << std::endl;
    GTEST_SKIP() << problem;
  }
};

/// Memory of a device with what hosts put there, `shift` bytes from an aligned address.
class OnDevice {
 public:
  explicit OnDevice(std::size_t bytes, std::size_t shift = 0)
      : buffer_(bytes + shift + 16, Space::device), shift_(shift), bytes_(bytes) {}
  OnDevice(const void* data, std::size_t bytes, StreamRef stream, std::size_t shift = 0) : OnDevice(bytes, shift) {
    device::copy(this->data(), data, bytes, stream);
  }
  OnDevice(ConstTensor host, StreamRef stream, std::size_t shift = 0)
      : OnDevice(host.data, host.bytes(), stream, shift) {}

  [[nodiscard]] std::byte* data() const { return buffer_.data() + shift_; }
  [[nodiscard]] Bytes bytes() const { return {data(), bytes_, Space::device}; }
  [[nodiscard]] Tensor tensor(std::size_t count, DType dtype = DType::f32) const {
    return {data(), count, dtype, Space::device};
  }
  [[nodiscard]] std::vector<std::byte> read(StreamRef stream) const {
    std::vector<std::byte> host(bytes_);
    device::copy(host.data(), data(), bytes_, stream);
    device::wait(stream);
    return host;
  }

 private:
  Buffer buffer_;
  std::size_t shift_;
  std::size_t bytes_;
};

[[nodiscard]] inline std::vector<std::byte> bytes_of(const ConstTensor& host) {
  const auto* const first = static_cast<const std::byte*>(host.data);
  return {first, first + host.bytes()};
}

/// Whether two tensors in memory are the same up to the rounding of sums in another order; NaN is NaN.
[[nodiscard]] inline bool are_close(const std::vector<std::byte>& a, const std::vector<std::byte>& b, DType dtype) {
  if (a.size() != b.size()) return false;
  const double unit = dtype == DType::f32 ? 0x1p-20 : dtype == DType::f16 ? 0x1p-7 : 0x1p-4;
  for (std::size_t i = 0; i < a.size() / size_of(dtype); ++i) {
    const double x = load_f32(a.data(), dtype, i);
    const double y = load_f32(b.data(), dtype, i);
    if (std::isnan(x) != std::isnan(y)) return false;
    if (std::abs(x - y) > unit * (std::abs(x) + std::abs(y) + 1)) return false;
  }
  return true;
}

}  // namespace gradwire::testing
