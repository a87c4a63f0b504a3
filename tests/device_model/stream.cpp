#include "device_model/stream.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>

namespace device_model {

namespace {

constexpr int kMostDevices = 32;  // a bit each
thread_local int t_device = 0;

int devices_by_environment() {
  const char* const text = std::getenv("GRADWIRE_DEVICE_MODEL_DEVICES");
  const int count = text == nullptr ? 2 : std::atoi(text);
  if (count < 1 || count > kMostDevices) {
    std::fprintf(stderr, "GRADWIRE_DEVICE_MODEL_DEVICES=%s: expected 1 to %d\n", text, kMostDevices);
    std::abort();
  }
  return count;
}

int this_thread() {
  static std::atomic<int> next = 0;
  thread_local const int own = next++;
  return own;
}

std::shared_ptr<Queue> new_queue(bool is_blocking) {
  const auto queue = std::make_shared<Queue>();
  queue->device = t_device;
  queue->is_blocking = is_blocking;
  if (is_blocking) {
    auto& all = devices().blocking;
    std::erase_if(all, [](const auto& each) { return each.expired(); });
    all.push_back(queue);
  }
  return queue;
}

bool is_legacy(const Queue& queue) {
  return devices().legacy[static_cast<std::size_t>(queue.device)]->queue.get() == &queue;
}

void append(Queue& queue, Action action) {
  queue.actions.push_back(std::move(action));
  ++queue.enqueued;
}
void append_wait(Queue& queue, const std::shared_ptr<Queue>& other) {
  if (other->executed >= other->enqueued) return;
  append(queue, [other, ticket = other->enqueued] { return advance_to(*other, ticket); });
}

/// The legacy default stream waits for all blocking streams of its device, and they for it.
void append_implicit_waits(Queue& queue) {
  if (is_legacy(queue)) {
    for (const auto& each : devices().blocking) {
      const auto other = each.lock();
      if (other && other->device == queue.device) append_wait(queue, other);
    }
  } else if (queue.is_blocking) {
    append_wait(queue, devices().legacy[static_cast<std::size_t>(queue.device)]->queue);
  }
}

}  // namespace

Devices::Devices(int devices) : arena(devices) {
  for (int device = 0; device < devices; ++device) {
    const auto queue = std::make_shared<Queue>();
    queue->device = device;
    legacy.emplace_back(new CUstream_st{queue});
  }
}

Devices& devices() {
  static auto* const instance = new Devices(devices_by_environment());  // streams may be destroyed last of all
  return *instance;
}

Opened::Opened() {
  devices().mutex.lock();
  before_ = devices().arena.in_reach();
  devices().arena.reach(~0u);
}
Opened::~Opened() {
  devices().arena.reach(before_);
  devices().mutex.unlock();
}

int device_count() { return static_cast<int>(devices().legacy.size()); }
int current_device() { return t_device; }

CUstream_st* resolve(cudaStream_t stream) {
  if (stream == cudaStreamLegacy) return devices().legacy[static_cast<std::size_t>(t_device)].get();
  if (stream != cudaStreamPerThread) return stream;
  auto& found = devices().of_thread[{this_thread(), t_device}];
  if (!found) found.reset(new CUstream_st{new_queue(true)});
  return found.get();
}

Counters counters() {
  const std::lock_guard lock(devices().mutex);
  return devices().counters;
}

namespace {
bool step(Queue& queue) {
  if (queue.actions.empty() || queue.is_executing) return false;
  queue.is_executing = true;
  const bool is_done = queue.actions.front()();
  queue.is_executing = false;
  if (!is_done) return false;
  queue.actions.pop_front();
  ++queue.executed;
  return true;
}
}  // namespace

bool advance_to(Queue& queue, std::uint64_t ticket) {
  const unsigned before = devices().arena.in_reach();
  while (queue.executed < ticket && step(queue)) {
  }
  devices().arena.reach(before);  // once for all of them
  return queue.executed >= ticket;
}

void wait_for(const std::shared_ptr<Queue>& queue, std::uint64_t ticket) {
  while (true) {
    {
      const std::lock_guard lock(devices().mutex);
      if (advance_to(*queue, ticket)) return;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

cudaError_t enqueue_until(cudaStream_t handle, Action action) {
  const std::lock_guard lock(devices().mutex);
  CUstream_st* const stream = resolve(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (stream->capture) {
    stream->capture->actions.push_back(std::move(action));
  } else {
    append_implicit_waits(*stream->queue);
    append(*stream->queue, std::move(action));
  }
  return cudaSuccess;
}

cudaError_t enqueue(cudaStream_t stream, std::function<void()> action) {
  const cudaError_t status = enqueue_until(stream, [action = std::move(action)] {
    action();
    return true;
  });
  if (status == cudaSuccess) {
    const std::lock_guard lock(devices().mutex);
    ++devices().counters.launches;
  }
  return status;
}

cudaError_t launch(cudaStream_t handle, std::function<void()> action) {
  const std::lock_guard lock(devices().mutex);
  const CUstream_st* const stream = resolve(handle);
  if (stream == nullptr || stream->queue->device != t_device) return cudaErrorInvalidResourceHandle;
  return enqueue(handle, [action = std::move(action), device = t_device] {
    devices().arena.reach(1u << device);
    action();
  });
}

}  // namespace device_model

using device_model::devices;
using device_model::resolve;

namespace {

/// A call that a device refuses while a stream is captured, and that spoils the graph.
bool is_refused_in_capture(CUstream_st* stream) {
  if (stream == nullptr || !stream->capture) return false;
  stream->capture->is_spoilt = true;
  return true;
}

}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  *count = device_model::device_count();
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* current) {
  *current = device_model::current_device();
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int index) {
  if (index < 0 || index >= device_model::device_count()) return cudaErrorInvalidDevice;
  device_model::t_device = index;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  if (priority > 0 || priority < -5 || flags > cudaStreamNonBlocking) return cudaErrorInvalidValue;
  const std::lock_guard lock(devices().mutex);
  *stream = new CUstream_st{device_model::new_queue(flags != cudaStreamNonBlocking)};
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread)
    return cudaErrorInvalidResourceHandle;
  const std::lock_guard lock(devices().mutex);
  (void)advance_to(*stream->queue, stream->queue->enqueued);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  std::shared_ptr<device_model::Queue> queue;
  std::uint64_t ticket = 0;
  {
    const std::lock_guard lock(devices().mutex);
    ++devices().counters.synchronisations;
    CUstream_st* const stream = resolve(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (is_refused_in_capture(stream)) return cudaErrorStreamCaptureUnsupported;
    queue = stream->queue;
    device_model::append_implicit_waits(*queue);
    ticket = queue->enqueued;
  }
  device_model::wait_for(queue, ticket);
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const std::lock_guard lock(devices().mutex);
  CUstream_st* const stream = resolve(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (is_refused_in_capture(stream)) return cudaErrorStreamCaptureUnsupported;
  device_model::Queue& queue = *stream->queue;
  return advance_to(queue, std::min(queue.executed + 1, queue.enqueued)) && queue.executed >= queue.enqueued
             ? cudaSuccess
             : cudaErrorNotReady;
}
/// Also for an event of another device.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  const std::lock_guard lock(devices().mutex);
  if (!event->queue) return cudaSuccess;  // never recorded: nothing to wait for, as on a device
  return device_model::enqueue_until(
      stream, [queue = event->queue, ticket = event->ticket] { return device_model::advance_to(*queue, ticket); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st{device_model::current_device()};
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  const std::lock_guard lock(devices().mutex);
  CUstream_st* const stream = resolve(handle);
  if (event == nullptr || stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (event->device != stream->queue->device) return cudaErrorInvalidResourceHandle;
  if (stream->capture) return cudaSuccess;  // one stream is captured at a time: order is kept anyway
  device_model::append_implicit_waits(*stream->queue);
  event->queue = stream->queue;
  event->ticket = stream->queue->enqueued;
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  const std::lock_guard lock(devices().mutex);
  if (!event->queue) return cudaSuccess;
  device_model::Queue& queue = *event->queue;
  return advance_to(queue, std::min(queue.executed + 1, event->ticket)) && queue.executed >= event->ticket
             ? cudaSuccess
             : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  std::shared_ptr<device_model::Queue> queue;
  {
    const std::lock_guard lock(devices().mutex);
    ++devices().counters.synchronisations;
    queue = event->queue;
  }
  if (queue) device_model::wait_for(queue, event->ticket);
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  if (start->device != end->device) return cudaErrorInvalidResourceHandle;
  *ms = 0;  // a model has no speed
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr || stream == cudaStreamLegacy) return cudaErrorStreamCaptureUnsupported;
  const std::lock_guard lock(devices().mutex);
  CUstream_st* const captured = resolve(stream);
  if (captured->capture) return cudaErrorInvalidValue;
  captured->capture = std::make_shared<device_model::Graph>();
  captured->capture->device = captured->queue->device;
  ++devices().captures;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  const std::lock_guard lock(devices().mutex);
  CUstream_st* const stream = resolve(handle);
  if (stream == nullptr || !stream->capture) return cudaErrorInvalidValue;
  --devices().captures;
  auto captured = std::exchange(stream->capture, nullptr);
  *graph = nullptr;
  if (captured->is_spoilt) return cudaErrorStreamCaptureUnsupported;
  *graph = new CUgraph_st{std::move(captured)};
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(devices().mutex);
  const CUstream_st* const stream = resolve(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  *status = !stream->capture             ? cudaStreamCaptureStatusNone
            : stream->capture->is_spoilt ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  if (graph == nullptr) return cudaErrorInvalidValue;
  *executable = new CUgraphExec_st{graph->graph->device, graph->graph->actions};
  return cudaSuccess;
}
/// On the device it was captured on: others have no use for it here.
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t handle) {
  if (executable == nullptr) return cudaErrorInvalidValue;
  const std::lock_guard lock(devices().mutex);
  const CUstream_st* const stream = resolve(handle);
  if (stream == nullptr || stream->queue->device != executable->device) return cudaErrorInvalidResourceHandle;
  for (const auto& action : executable->actions) {
    if (const auto status = device_model::enqueue_until(handle, action); status != cudaSuccess) return status;
  }
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
