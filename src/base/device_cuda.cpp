#include <fmt/format.h>
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#endif

#include <cstdint>
#include <map>
#include <mutex>
#include <new>
#include <utility>

#include "base/cuda.hpp"
#include "base/device.hpp"
#include "base/fail.hpp"

namespace gradwire::device {

using cuda::check;

std::string problem() { return cuda::device_problem(); }

int count() noexcept {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess) return devices;
  (void)cudaGetLastError();
  return 0;
}
int current() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}
void use(int device) { check(cudaSetDevice(device), "cudaSetDevice"); }
int of(const std::byte* data) {
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, data), "cudaPointerGetAttributes");
  return attributes.device;
}
Scope::~Scope() {
  if (previous_ >= 0) (void)cudaSetDevice(previous_);
}

std::string describe() {
  if (std::string why = problem(); !why.empty()) return why;
  int runtime = 0;
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, current()), "cudaGetDeviceProperties");
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  return fmt::format("{}, {} SMs, CUDA {}.{}", properties.name, properties.multiProcessorCount, runtime / 1000,
                     runtime % 1000 / 10);
}

namespace {

/// gradwire's own pool of a device, which keeps what it has: steps after the first take nothing from the driver.
cudaMemPool_t pool_of(int device) {
  static std::mutex mutex;
  static auto& pools = *new std::map<int, cudaMemPool_t>;  // as long as the process lives
  const std::lock_guard lock(mutex);
  cudaMemPool_t& pool = pools[device];
  if (pool != nullptr) return pool;
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device;
  cudaMemPool_t made = nullptr;
  check(cudaMemPoolCreate(&made, &properties), "cudaMemPoolCreate");
  std::uint64_t all = ~std::uint64_t{0};
  check(cudaMemPoolSetAttribute(made, cudaMemPoolAttrReleaseThreshold, &all), "cudaMemPoolSetAttribute");
  int no = 0;  // or a stream would wait for another one, whose memory it is given
  check(cudaMemPoolSetAttribute(made, cudaMemPoolReuseAllowInternalDependencies, &no), "cudaMemPoolSetAttribute");
  return pool = made;
}

}  // namespace

std::byte* allocate(std::size_t bytes) {
  if (const std::string why = problem(); !why.empty()) fail(Errc::unsupported, "no device memory: {}", why);
  (void)pool_of(current());  // here, as it cannot be made while a stream is captured
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    throw std::bad_alloc();
  }
  check(status, "cudaMalloc");
  return static_cast<std::byte*>(data);
}

void release(std::byte* data) noexcept { (void)cudaFree(data); }

Pinned::Pinned(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  void* data = nullptr;
  check(cudaHostAlloc(&data, bytes, cudaHostAllocDefault), "cudaHostAlloc");
  data_ = static_cast<std::byte*>(data);
}
Pinned::Pinned(Pinned&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
Pinned& Pinned::operator=(Pinned&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}
Pinned::~Pinned() {
  if (data_ != nullptr) (void)cudaFreeHost(data_);
}

void copy(void* to, const void* from, std::size_t bytes, StreamRef stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, cuda::native(stream)), "cudaMemcpyAsync");
}
void zero(void* data, std::size_t bytes, StreamRef stream) {
  check(cudaMemsetAsync(data, 0, bytes, cuda::native(stream)), "cudaMemsetAsync");
}
void wait(StreamRef stream) { check(cudaStreamSynchronize(cuda::native(stream)), "cudaStreamSynchronize"); }
void copy_now(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  const Stream stream;
  copy(to, from, bytes, stream.ref());
  wait(stream.ref());
}

Scratch::Scratch(std::size_t bytes, StreamRef stream) : stream_(stream) {
  if (bytes == 0) return;
  void* data = nullptr;
  check(cudaMallocFromPoolAsync(&data, bytes, pool_of(current()), cuda::native(stream)), "cudaMallocFromPoolAsync");
  data_ = static_cast<std::byte*>(data);
}
Scratch::~Scratch() {
  if (data_ != nullptr) (void)cudaFreeAsync(data_, cuda::native(stream_));
}

Event::Event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  event_ = event;
}
Event::~Event() { (void)cudaEventDestroy(static_cast<cudaEvent_t>(event_)); }
void Event::record(StreamRef stream) {
  check(cudaEventRecord(static_cast<cudaEvent_t>(event_), cuda::native(stream)), "cudaEventRecord");
}
bool Event::done() const {
  const cudaError_t status = cudaEventQuery(static_cast<cudaEvent_t>(event_));
  if (status == cudaErrorNotReady) return false;
  check(status, "cudaEventQuery");
  return true;
}
bool Event::is_surely_done() const noexcept { return cudaEventQuery(static_cast<cudaEvent_t>(event_)) == cudaSuccess; }
void Event::before(StreamRef stream) const {
  check(cudaStreamWaitEvent(cuda::native(stream), static_cast<cudaEvent_t>(event_), 0), "cudaStreamWaitEvent");
}

void Results::record(StreamRef stream) noexcept {
  try {
    written_.record(stream);
  } catch (const std::exception&) {
    is_lost_ = true;
  }
}
Results::~Results() {
  if (!is_surely_done()) memory_.abandon();
}

Stream::Stream(Priority priority) {
  if (const std::string why = problem(); !why.empty()) fail(Errc::unsupported, "no stream of a device: {}", why);
  int least = 0;
  int greatest = 0;
  cudaStream_t stream = nullptr;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, priority == Priority::most ? greatest : least),
        "cudaStreamCreateWithPriority");
  stream_ = stream;
}
Stream::~Stream() { (void)cudaStreamDestroy(static_cast<cudaStream_t>(stream_)); }

#if __has_include(<nvtx3/nvToolsExt.h>)
Range::Range(const char* name) noexcept : is_named_(name != nullptr) {
  if (is_named_) (void)nvtxRangePushA(name);
}
Range::~Range() {
  if (is_named_) (void)nvtxRangePop();
}
#else  // the model of CUDA has no profilers
Range::Range(const char* name) noexcept : is_named_(name != nullptr) {}
Range::~Range() = default;
#endif

}  // namespace gradwire::device
