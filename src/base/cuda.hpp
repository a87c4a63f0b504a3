#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

/// \file What gradwire needs of the CUDA runtime. Sources other than .cu files and the NCCL transport go through it.
/// nvcc reads it, so it includes nothing that nvcc cannot compile.
namespace gradwire::cuda {

/// Throws Errc::device saying what failed and why.
void check(cudaError_t status, std::string_view what);

/// Why no device can be used, in words; empty where one can.
[[nodiscard]] std::string device_problem();

/// A stream of its own, which does not wait for the legacy default stream.
class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { (void)cudaStreamDestroy(stream_); }

  [[nodiscard]] cudaStream_t get() const noexcept { return stream_; }
  void wait() const { check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Device memory in the order of a stream, which must outlive it.
class Memory {
 public:
  Memory(std::size_t bytes, const Stream& stream) : stream_(stream.get()) {
    check(cudaMallocAsync(&data_, bytes, stream_), "cudaMallocAsync");
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
