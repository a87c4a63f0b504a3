#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "device_model/stream.hpp"

using device_model::devices;

namespace {

thread_local cudaError_t t_last = cudaSuccess;

cudaError_t note(cudaError_t status) {
  if (status != cudaSuccess && status != cudaErrorNotReady) t_last = status;
  return status;
}

bool is_device(const void* data) { return devices().arena.contains(data); }
bool lies_in(const std::map<const std::byte*, std::size_t>& pieces, const void* data, std::size_t bytes) {
  const auto* const first = static_cast<const std::byte*>(data);
  auto after = pieces.upper_bound(first);
  if (after == pieces.begin()) return false;
  --after;
  return static_cast<std::size_t>(first - after->first) + bytes <= after->second;
}
bool is_pinned(const void* data, std::size_t bytes) { return lies_in(devices().pinned, data, bytes); }

bool is_capturing(cudaStream_t handle) {
  const CUstream_st* const stream = device_model::resolve(handle);
  return stream != nullptr && stream->capture != nullptr;
}

}  // namespace

bool device_model::is_open_to_peers(const void* data) {
  const std::lock_guard lock(devices().mutex);
  return is_device(data) && !lies_in(devices().pooled, data, 1);
}

cudaError_t cudaGetLastError() { return std::exchange(t_last, cudaSuccess); }
const char* cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle: return "invalid resource handle";
    case cudaErrorNotReady: return "device not ready";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
  }
  return "unrecognized error code";
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index) {
  if (index < 0 || index >= device_model::device_count()) return note(cudaErrorInvalidDevice);
  *value = attribute == cudaDevAttrMultiProcessorCount ? 4 : 9;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  if (index < 0 || index >= device_model::device_count()) return note(cudaErrorInvalidDevice);
  *properties = {"model of a device on the host", 9, 0, 4};
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  const std::lock_guard lock(devices().mutex);
  ++devices().counters.allocations;
  if (devices().captures > 0) return note(cudaErrorStreamCaptureUnsupported);
  *data = devices().arena.allocate(bytes, device_model::current_device());
  return note(*data == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}
cudaError_t cudaFree(void* data) {
  if (data == nullptr) return cudaSuccess;
  const std::lock_guard lock(devices().mutex);
  return note(devices().arena.release(data) ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaMallocFromPoolAsync(void** data, std::size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  if (pool == nullptr) return note(cudaErrorInvalidValue);
  if (stream == nullptr) return note(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(devices().mutex);
  *data = devices().arena.allocate(bytes, pool->device);
  if (*data != nullptr) devices().pooled[static_cast<std::byte*>(*data)] = bytes;
  return note(*data == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  if (data == nullptr) return cudaSuccess;
  const std::lock_guard lock(devices().mutex);
  if (is_capturing(stream)) return cudaSuccess;  // a graph keeps its memory
  return note(device_model::enqueue_until(stream, [data] {
    devices().pooled.erase(static_cast<std::byte*>(data));
    return devices().arena.release(data);
  }));
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  if (properties->allocType != cudaMemAllocationTypePinned || properties->location.type != cudaMemLocationTypeDevice)
    return note(cudaErrorInvalidValue);
  if (properties->location.id < 0 || properties->location.id >= device_model::device_count())
    return note(cudaErrorInvalidDevice);
  static std::mutex mutex;
  static auto& all = *new std::deque<CUmemPool_st>;  // as long as the process lives
  const std::lock_guard lock(mutex);
  *pool = &all.emplace_back(CUmemPool_st{properties->location.id});
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }

cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned) {
  const std::lock_guard lock(devices().mutex);
  ++devices().counters.allocations;
  if (devices().captures > 0) return note(cudaErrorStreamCaptureUnsupported);
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*data == nullptr) return note(cudaErrorMemoryAllocation);
  devices().pinned[static_cast<std::byte*>(*data)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* data) {
  if (data == nullptr) return cudaSuccess;
  const std::lock_guard lock(devices().mutex);
  if (devices().pinned.erase(static_cast<std::byte*>(data)) == 0) return note(cudaErrorInvalidValue);
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
  const std::lock_guard lock(devices().mutex);
  const cudaMemoryType type = is_device(data)      ? cudaMemoryTypeDevice
                              : is_pinned(data, 0) ? cudaMemoryTypeHost
                                                   : cudaMemoryTypeUnregistered;
  *attributes = {type, std::max(devices().arena.device_of(data), 0), const_cast<void*>(data), const_cast<void*>(data)};
  return cudaSuccess;
}

namespace {

/// `waits`: the host has to wait for the copy.
cudaError_t enqueue_copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream,
                         bool& waits) {
  const std::lock_guard lock(devices().mutex);
  const bool from_device = is_device(from);
  const bool to_device = is_device(to);
  const cudaMemcpyKind actual = from_device ? (to_device ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost)
                                            : (to_device ? cudaMemcpyHostToDevice : cudaMemcpyHostToHost);
  if (kind != cudaMemcpyDefault && kind != actual) return note(cudaErrorInvalidValue);
  if (from_device && !devices().arena.holds(from, bytes)) return note(cudaErrorInvalidValue);
  if (to_device && !devices().arena.holds(to, bytes)) return note(cudaErrorInvalidValue);
  if (!from_device && !is_pinned(from, bytes)) {  // read before the call returns
    const auto* const first = static_cast<const std::byte*>(from);
    auto staged = std::make_shared<std::vector<std::byte>>(first, first + bytes);
    return note(device_model::enqueue(stream, [to, staged] {
      devices().arena.reach(devices().arena.bit_of(to));
      std::memcpy(to, staged->data(), staged->size());
    }));
  }
  const auto status = device_model::enqueue(stream, [to, from, bytes] {
    devices().arena.reach(devices().arena.bit_of(to) |
                          devices().arena.bit_of(from));  // whatever the stream's device is
    std::memcpy(to, from, bytes);
  });
  waits = !to_device && !is_pinned(to, bytes);
  return note(status);
}

}  // namespace

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  bool waits = false;
  const cudaError_t status = enqueue_copy(to, from, bytes, kind, stream, waits);
  return status == cudaSuccess && waits ? note(cudaStreamSynchronize(stream)) : status;
}
cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  const std::lock_guard lock(devices().mutex);
  if (!is_device(data) || !devices().arena.holds(data, bytes)) return note(cudaErrorInvalidValue);
  return note(device_model::launch(stream, [data, value, bytes] { std::memset(data, value, bytes); }));
}
