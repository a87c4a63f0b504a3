#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "gradwire/types.hpp"

/// \file What gradwire needs of the CUDA runtime. Sources other than .cu files and the NCCL transport go through it.
/// nvcc reads it, so it includes nothing that nvcc cannot compile.
namespace gradwire::cuda {

/// Throws Errc::device saying what failed and why.
void check(cudaError_t status, std::string_view what);

/// Why no device can be used, in words; empty where one can.
[[nodiscard]] std::string device_problem();

/// Throws Errc::invalid_argument for the host's stream: device memory is used in the order of a stream of its own.
[[nodiscard]] cudaStream_t native(StreamRef stream);

/// Blocks of 256 threads that a launch may have: `most`, or fewer so that kernels stay on GRADWIRE_MAX_SMS of the
/// device's multiprocessors' worth of threads.
[[nodiscard]] unsigned most_blocks(unsigned most);

/// Makes `device` the calling thread's current one for as long as it lives.
class DeviceScope {
 public:
  explicit DeviceScope(int device) {
    check(cudaGetDevice(&previous_), "cudaGetDevice");
    if (device != previous_) check(cudaSetDevice(device), "cudaSetDevice");
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;
  ~DeviceScope() { (void)cudaSetDevice(previous_); }

 private:
  int previous_ = 0;
};

/// Device memory in the order of a stream, out of the device's pool; the stream must outlive it.
class Memory {
 public:
  Memory(std::size_t bytes, StreamRef stream) : stream_(native(stream)) {
    if (bytes > 0) check(cudaMallocAsync(&data_, bytes, stream_), "cudaMallocAsync");
  }
  Memory(Memory&& other) noexcept : data_(std::exchange(other.data_, nullptr)), stream_(other.stream_) {}
  Memory& operator=(Memory&&) = delete;
  ~Memory() {
    if (data_ != nullptr) (void)cudaFreeAsync(data_, stream_);
  }

  [[nodiscard]] std::byte* data() const noexcept { return static_cast<std::byte*>(data_); }

 private:
  void* data_ = nullptr;
  cudaStream_t stream_;
};

}  // namespace gradwire::cuda
