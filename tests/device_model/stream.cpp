#include "device_model/stream.hpp"

#include <chrono>
#include <cstdio>
#include <thread>
#include <utility>

namespace device_model {

Device& device() {
  static auto* const instance = new Device;  // streams may be destroyed by what is destroyed last
  return *instance;
}

Counters counters() {
  const std::lock_guard lock(device().mutex);
  return device().counters;
}

bool step(Queue& queue) {
  if (queue.actions.empty() || queue.is_executing) return false;
  queue.is_executing = true;
  device().arena.open();
  const bool is_done = queue.actions.front()();
  device().arena.close();
  queue.is_executing = false;
  if (!is_done) return false;
  queue.actions.pop_front();
  ++queue.executed;
  return true;
}

bool advance_to(Queue& queue, std::uint64_t ticket) {
  device().arena.open();  // once for all of them
  while (queue.executed < ticket && step(queue)) {
  }
  device().arena.close();
  return queue.executed >= ticket;
}

void wait_for(const std::shared_ptr<Queue>& queue, std::uint64_t ticket) {
  while (true) {
    {
      const std::lock_guard lock(device().mutex);
      if (advance_to(*queue, ticket)) return;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

cudaError_t enqueue_until(cudaStream_t stream, Action action) {
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;  // the legacy default stream: gradwire never uses it
  const std::lock_guard lock(device().mutex);
  if (stream->capture) {
    stream->capture->actions.push_back(std::move(action));
  } else {
    stream->queue->actions.push_back(std::move(action));
    ++stream->queue->enqueued;
  }
  return cudaSuccess;
}

cudaError_t enqueue(cudaStream_t stream, std::function<void()> action) {
  const cudaError_t status = enqueue_until(stream, [action = std::move(action)] {
    action();
    return true;
  });
  if (status == cudaSuccess) {
    const std::lock_guard lock(device().mutex);
    ++device().counters.launches;
  }
  return status;
}

}  // namespace device_model

using device_model::device;

namespace {

/// A call that a device refuses while a stream is captured, and that spoils the graph.
bool is_refused_in_capture(cudaStream_t stream) {
  if (stream == nullptr || !stream->capture) return false;
  stream->capture->is_spoilt = true;
  return true;
}

}  // namespace

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int priority) {
  if (priority > 0 || priority < -5) return cudaErrorInvalidValue;
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  const std::lock_guard lock(device().mutex);
  (void)advance_to(*stream->queue, stream->queue->enqueued);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  std::shared_ptr<device_model::Queue> queue;
  std::uint64_t ticket = 0;
  {
    const std::lock_guard lock(device().mutex);
    ++device().counters.synchronisations;
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (is_refused_in_capture(stream)) return cudaErrorStreamCaptureUnsupported;
    queue = stream->queue;
    ticket = queue->enqueued;
  }
  device_model::wait_for(queue, ticket);
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const std::lock_guard lock(device().mutex);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (is_refused_in_capture(stream)) return cudaErrorStreamCaptureUnsupported;
  if (stream->queue->executed < stream->queue->enqueued) (void)step(*stream->queue);
  return stream->queue->executed >= stream->queue->enqueued ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  const std::lock_guard lock(device().mutex);
  if (!event->queue) return cudaSuccess;  // never recorded: nothing to wait for, as on a device
  return device_model::enqueue_until(
      stream, [queue = event->queue, ticket = event->ticket] { return device_model::advance_to(*queue, ticket); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (event == nullptr || stream == nullptr) return cudaErrorInvalidResourceHandle;
  const std::lock_guard lock(device().mutex);
  if (stream->capture) return cudaSuccess;  // one stream is captured at a time: order is kept anyway
  event->queue = stream->queue;
  event->ticket = stream->queue->enqueued;
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  const std::lock_guard lock(device().mutex);
  if (!event->queue || event->queue->executed >= event->ticket) return cudaSuccess;
  (void)step(*event->queue);
  return event->queue->executed >= event->ticket ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  std::shared_ptr<device_model::Queue> queue;
  {
    const std::lock_guard lock(device().mutex);
    ++device().counters.synchronisations;
    queue = event->queue;
  }
  if (queue) device_model::wait_for(queue, event->ticket);
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) {
  *ms = 0;  // a model has no speed
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr) return cudaErrorStreamCaptureUnsupported;
  const std::lock_guard lock(device().mutex);
  if (stream->capture) return cudaErrorInvalidValue;
  stream->capture = std::make_shared<device_model::Graph>();
  ++device().captures;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::lock_guard lock(device().mutex);
  if (stream == nullptr || !stream->capture) return cudaErrorInvalidValue;
  --device().captures;
  auto captured = std::exchange(stream->capture, nullptr);
  *graph = nullptr;
  if (captured->is_spoilt) return cudaErrorStreamCaptureUnsupported;
  *graph = new CUgraph_st{std::move(captured)};
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  const std::lock_guard lock(device().mutex);
  *status = !stream->capture             ? cudaStreamCaptureStatusNone
            : stream->capture->is_spoilt ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  if (graph == nullptr) return cudaErrorInvalidValue;
  *executable = new CUgraphExec_st{graph->graph->actions};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (executable == nullptr) return cudaErrorInvalidValue;
  for (const auto& action : executable->actions) {
    if (const auto status = device_model::enqueue_until(stream, action); status != cudaSuccess) return status;
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
