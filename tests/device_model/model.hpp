#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

#include "cuda_runtime_api.h"

/// \file What tests and the models of libraries (NCCL) see of the model beside the runtime's own functions.
namespace device_model {

/// What a stream of work has cost so far, in all threads.
struct Counters {
  std::uint64_t launches = 0;
  std::uint64_t allocations = 0;       ///< cudaMalloc and cudaHostAlloc, not those in a stream's order
  std::uint64_t synchronisations = 0;  ///< calls in which the host waits
};
[[nodiscard]] Counters counters();

/// How many devices there are: GRADWIRE_DEVICE_MODEL_DEVICES, or 2. None reaches another's memory but by copies.
[[nodiscard]] int device_count();
/// The calling thread's.
[[nodiscard]] int current_device();

/// Appends what the device does next on a stream. Whatever a stream holds is done when the host waits for it, or, one
/// piece a time, when it asks whether it is done: never by itself, so that what is not waited for is seen not to be.
cudaError_t enqueue(cudaStream_t stream, std::function<void()> action);
/// The same, of a kernel, which wants a stream of the calling thread's device.
cudaError_t launch(cudaStream_t stream, std::function<void()> action);

/// An action that may have to wait for other threads: done when it returns true. It is tried again whenever the host
/// asks for, or waits for, what comes after it.
cudaError_t enqueue_until(cudaStream_t stream, std::function<bool()> action);

/// Whether other devices may reach it, which is so for what cudaMalloc gives. A pool's memory is its own device's alone
/// until cudaMemPoolSetAccess, which the model does not have.
[[nodiscard]] bool is_open_to_peers(const void* data);

/// What a library does that reaches device memory by itself, as an MPI may: as long as it lives the host does too, and
/// nobody else uses a device.
class Opened {
 public:
  Opened();
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened();

 private:
  unsigned before_;
};

/// Runs `thread` for all threads of all blocks, a block after another. Called by what is in a stream.
struct Grid {
  unsigned blocks[3];
  unsigned threads[3];
};
void run_grid(const Grid& grid, const std::function<void()>& thread);

/// In which order the threads of a block run between two barriers: as GRADWIRE_DEVICE_MODEL_ORDER says, forward
/// (default), backward or shuffled. A kernel without races gives the same in all.
enum class Order { forward, backward, shuffled };
void set_order(Order order);

}  // namespace device_model
