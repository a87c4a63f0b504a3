#pragma once
#include <cstddef>
#include <utility>

#include "gradwire/export.hpp"
#include "gradwire/types.hpp"

namespace gradwire {

/// Owning, uninitialised memory, aligned to 128 bytes. Move-only: a copy would have to name a stream.
class GRADWIRE_API Buffer {
 public:
  Buffer() noexcept = default;
  /// Device memory is that of the calling thread's device. Throws Errc::unsupported for Space::device where there is no
  /// device, or in a build without CUDA; std::bad_alloc when memory runs out.
  explicit Buffer(std::size_t size, Space space = Space::host);
  Buffer(Buffer&& other) noexcept : view_(std::exchange(other.view_, {})) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(view_, other.view_);
    return *this;
  }
  ~Buffer();

  [[nodiscard]] std::byte* data() const noexcept { return view_.data; }
  [[nodiscard]] std::size_t size() const noexcept { return view_.size; }
  [[nodiscard]] Bytes bytes() const noexcept { return view_; }
  /// The whole buffer as elements; size() must hold `count` of them.
  [[nodiscard]] Tensor tensor(std::size_t count, DType dtype = DType::f32) const noexcept {
    return {view_.data, count, dtype, view_.space};
  }
  /// Of device memory: the host waits until it is done.
  void fill_zero() const;
  /// Gives the memory up without freeing it: for memory that a failed backend may still write to. It stays allocated
  /// until the process ends.
  void abandon() noexcept;

 private:
  Bytes view_;
};

}  // namespace gradwire
