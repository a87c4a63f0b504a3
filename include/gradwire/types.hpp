#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gradwire/export.hpp"

namespace gradwire {

/// Element type of a tensor. The values are pinned: they appear in frames. The unsigned integers are for sums inside
/// gradwire (Transport::all_reduce_sum); gradients are floats.
enum class DType : std::uint8_t { f32 = 0, f16 = 1, bf16 = 2, u8 = 3, u16 = 4, u32 = 5 };

/// Where memory lives.
enum class Space : std::uint8_t { host = 0, device = 1 };

/// A parameter's identity, stable for the life of the model. All state is keyed by it.
enum class ParamId : std::uint32_t {};

/// Tells concurrent operations on one communicator apart. Users' slots are at most kMaxSlot; the ones after it are
/// gradwire's own: agreement between ranks, a backend's abort messages, and what tells ranks that their device
/// operations come in different orders.
enum class Slot : std::uint32_t {};
inline constexpr std::uint32_t kMaxSlot = 0x3fff;
inline constexpr Slot kAgreementSlot{kMaxSlot + 1};
inline constexpr Slot kAbortSlot{kMaxSlot + 2};
inline constexpr Slot kOrderSlot{kMaxSlot + 3};

using Deadline = std::chrono::steady_clock::time_point;

/// Bytes of one element: 4, 2 or 1.
[[nodiscard]] constexpr std::size_t size_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32:
    case DType::u32: return 4;
    case DType::u8: return 1;
    default: return 2;
  }
}
[[nodiscard]] constexpr bool is_float(DType dtype) noexcept { return dtype <= DType::bf16; }

/// "f32", "f16", "bf16", "u8", "u16", "u32".
[[nodiscard]] GRADWIRE_API std::string_view name(DType dtype) noexcept;
/// "host", "device".
[[nodiscard]] GRADWIRE_API std::string_view name(Space space) noexcept;

/// Non-owning view of `count` contiguous elements. Null data with count 0 means "none".
struct Tensor {
  void* data = nullptr;
  std::size_t count = 0;
  DType dtype = DType::f32;
  Space space = Space::host;

  [[nodiscard]] std::size_t bytes() const noexcept { return count * size_of(dtype); }
  /// Elements [first, first + n); the caller keeps the range inside the tensor.
  [[nodiscard]] Tensor slice(std::size_t first, std::size_t n) const noexcept {
    return {static_cast<std::byte*>(data) + first * size_of(dtype), n, dtype, space};
  }
};

/// Read-only counterpart of Tensor.
struct ConstTensor {
  const void* data = nullptr;
  std::size_t count = 0;
  DType dtype = DType::f32;
  Space space = Space::host;

  ConstTensor() = default;
  ConstTensor(const void* data_, std::size_t count_, DType dtype_ = DType::f32, Space space_ = Space::host) noexcept
      : data(data_), count(count_), dtype(dtype_), space(space_) {}
  ConstTensor(const Tensor& t) noexcept : ConstTensor(t.data, t.count, t.dtype, t.space) {}  // NOLINT: a view of a view

  [[nodiscard]] std::size_t bytes() const noexcept { return count * size_of(dtype); }
  [[nodiscard]] ConstTensor slice(std::size_t first, std::size_t n) const noexcept {
    return {static_cast<const std::byte*>(data) + first * size_of(dtype), n, dtype, space};
  }
};

/// Non-owning view of raw memory.
struct Bytes {
  std::byte* data = nullptr;
  std::size_t size = 0;
  Space space = Space::host;

  [[nodiscard]] Bytes slice(std::size_t first, std::size_t n) const noexcept { return {data + first, n, space}; }
};

/// Read-only counterpart of Bytes.
struct ConstBytes {
  const std::byte* data = nullptr;
  std::size_t size = 0;
  Space space = Space::host;

  ConstBytes() = default;
  ConstBytes(const std::byte* data_, std::size_t size_, Space space_ = Space::host) noexcept
      : data(data_), size(size_), space(space_) {}
  ConstBytes(const Bytes& b) noexcept : ConstBytes(b.data, b.size, b.space) {}  // NOLINT: a view of a view

  [[nodiscard]] ConstBytes slice(std::size_t first, std::size_t n) const noexcept { return {data + first, n, space}; }
};

/// Non-owning reference to the stream that orders work on a tensor's memory: "now, on this thread", or a stream of a
/// device (cudaStream_t). The host's is never a handle, and no handle is the host's.
class StreamRef {
 public:
  /// The memory is ready, and the result is there when the call returns or its Work is done.
  [[nodiscard]] static StreamRef host() noexcept { return StreamRef{}; }
  /// The legacy default stream, cudaStreamLegacy: of the device of the hook, operation or communicator that it is given
  /// to, or else of the calling thread's.
  [[nodiscard]] static StreamRef legacy_default() noexcept { return StreamRef(handle(1)); }
  /// The calling thread's default stream, cudaStreamPerThread, of the same device.
  [[nodiscard]] static StreamRef per_thread_default() noexcept { return StreamRef(handle(2)); }
  /// A stream's handle. That of a default stream may be 0, as frameworks have it (PyTorch's getCurrentCUDAStream()),
  /// and is legacy_default() then; this holds in code for per-thread default streams too, for which the legacy one
  /// waits. Literals do not compile: a default stream that is meant has a name.
  explicit StreamRef(void* native) noexcept : native_(native == nullptr ? handle(1) : native) {}
  StreamRef(int) = delete;
  StreamRef(std::nullptr_t) = delete;

  [[nodiscard]] bool is_host() const noexcept { return native_ == nullptr; }
  /// The handle; null for the host's.
  [[nodiscard]] void* native() const noexcept { return native_; }

 private:
  StreamRef() noexcept = default;
  static void* handle(std::uintptr_t number) noexcept { return reinterpret_cast<void*>(number); }
  void* native_ = nullptr;
};

}  // namespace gradwire
