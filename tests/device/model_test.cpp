// The model is as strict as a device about whose memory, streams and events these are, and about default streams.
#include "device_model/model.hpp"

#include <cuda_runtime.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <thread>
#include <utility>
#include <vector>

namespace gradwire::testing {
namespace {

/// One thread that stores a number.
void store(int* to, int value) { *to = value; }

cudaError_t launch_store(cudaStream_t stream, int* to, int value) {
  cudaLaunchConfig_t config{};
  config.stream = stream;
  return cudaLaunchKernelEx(&config, store, to, value);
}

class DeviceModel : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_GE(device_model::device_count(), 2);
    on(0);
  }
  void TearDown() override {
    for (cudaStream_t const stream : std::exchange(streams(), {})) EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
    for (cudaEvent_t const event : std::exchange(events(), {})) EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
    for (int* const number : std::exchange(numbers(), {})) EXPECT_EQ(cudaFree(number), cudaSuccess);
    on(0);
  }

  static void on(int device) { ASSERT_EQ(cudaSetDevice(device), cudaSuccess); }
  static int current() {
    int device = -1;
    EXPECT_EQ(cudaGetDevice(&device), cudaSuccess);
    return device;
  }
  /// Of the current device.
  static cudaStream_t new_stream(unsigned flags = cudaStreamNonBlocking) {
    cudaStream_t stream = nullptr;
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream, flags), cudaSuccess);
    streams().push_back(stream);
    return stream;
  }
  static cudaEvent_t new_event() {
    cudaEvent_t event = nullptr;
    EXPECT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    events().push_back(event);
    return event;
  }
  static int* new_number() {
    void* data = nullptr;
    EXPECT_EQ(cudaMalloc(&data, sizeof(int)), cudaSuccess);
    numbers().push_back(static_cast<int*>(data));
    return numbers().back();
  }
  /// Without waiting for what else uses it.
  static int read(const int* number) {
    int value = 0;
    cudaStream_t const stream = new_stream();
    EXPECT_EQ(cudaMemcpyAsync(&value, number, sizeof value, cudaMemcpyDefault, stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    return value;
  }
  static bool ends_with_a_fault(const std::function<void()>& action) {
    const pid_t child = fork();
    if (child == 0) {
      (void)close(STDERR_FILENO);
      action();
      _exit(0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
  }

 private:
  // What the test has made: TearDown() ends it.
  static std::vector<cudaStream_t>& streams() {
    static std::vector<cudaStream_t> all;
    return all;
  }
  static std::vector<cudaEvent_t>& events() {
    static std::vector<cudaEvent_t> all;
    return all;
  }
  static std::vector<int*>& numbers() {
    static std::vector<int*> all;
    return all;
  }
};

TEST_F(DeviceModel, HasACurrentDeviceAThread) {
  on(1);
  int of_another = -1;
  std::thread([&] { of_another = current(); }).join();
  EXPECT_EQ(of_another, 0);
  EXPECT_EQ(current(), 1);
  EXPECT_EQ(cudaSetDevice(device_model::device_count()), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaSetDevice(-1), cudaErrorInvalidDevice);
  EXPECT_EQ(current(), 1);
}

TEST_F(DeviceModel, GivesMemoryToTheCurrentDevice) {
  for (const int device : {0, 1}) {
    on(device);
    int* const number = new_number();
    on(1 - device);
    cudaPointerAttributes attributes{};
    EXPECT_EQ(cudaPointerGetAttributes(&attributes, number), cudaSuccess);
    EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
    EXPECT_EQ(attributes.device, device);
  }
}

TEST_F(DeviceModel, GivesAPoolsMemoryToThePoolsDevice) {
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, 1};
  cudaMemPool_t pool = nullptr;
  ASSERT_EQ(cudaMemPoolCreate(&pool, &properties), cudaSuccess);
  cudaStream_t const stream = new_stream();
  void* data = nullptr;
  ASSERT_EQ(cudaMallocFromPoolAsync(&data, 64, pool, stream), cudaSuccess);
  cudaPointerAttributes attributes{};
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, data), cudaSuccess);
  EXPECT_EQ(attributes.device, 1);
  EXPECT_EQ(cudaFreeAsync(data, stream), cudaSuccess);
  properties.location.id = device_model::device_count();
  EXPECT_EQ(cudaMemPoolCreate(&pool, &properties), cudaErrorInvalidDevice);
}

TEST_F(DeviceModel, LaunchesOnStreamsOfTheCurrentDeviceOnly) {
  cudaStream_t const stream = new_stream();
  int* const number = new_number();
  on(1);
  EXPECT_EQ(launch_store(stream, number, 1), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaMemsetAsync(number, 0, sizeof(int), stream), cudaErrorInvalidResourceHandle);
  on(0);
  EXPECT_EQ(launch_store(stream, number, 1), cudaSuccess);
  on(1);  // who asks and waits may have any
  EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
  EXPECT_EQ(read(number), 1);
}

TEST_F(DeviceModel, RecordsEventsInStreamsOfTheirDeviceOnly) {
  cudaStream_t const first = new_stream();
  cudaEvent_t const event = new_event();
  int* const number = new_number();
  on(1);
  cudaStream_t const second = new_stream();
  int* const copy = new_number();
  EXPECT_EQ(cudaEventRecord(event, second), cudaErrorInvalidResourceHandle);
  on(0);
  EXPECT_EQ(launch_store(first, number, 7), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event, first), cudaSuccess);
  on(1);
  EXPECT_EQ(cudaStreamWaitEvent(second, event), cudaSuccess);  // of another device
  EXPECT_EQ(cudaMemcpyAsync(copy, number, sizeof(int), cudaMemcpyDefault, second), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(second), cudaSuccess);
  EXPECT_EQ(read(copy), 7);
}

TEST_F(DeviceModel, CopiesBetweenDevicesOnAnyStream) {
  int* const first = new_number();
  cudaStream_t const stream = new_stream();
  EXPECT_EQ(launch_store(stream, first, 3), cudaSuccess);
  on(1);
  int* const second = new_number();
  EXPECT_EQ(cudaMemcpyAsync(second, first, sizeof(int), cudaMemcpyDefault, stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(read(second), 3);
}

TEST_F(DeviceModel, KernelsDoNotReachTheMemoryOfOtherDevices) {
  const auto store_from = [](int device) {
    int* const number = new_number();
    on(device);
    cudaStream_t const stream = new_stream();
    EXPECT_EQ(launch_store(stream, number, 1), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  };
  EXPECT_FALSE(ends_with_a_fault([&] { store_from(0); }));
  EXPECT_TRUE(ends_with_a_fault([&] { store_from(1); }));
  EXPECT_TRUE(ends_with_a_fault([&] { *new_number() = 1; }));  // nor does the host
}

TEST_F(DeviceModel, RefusesTheStreamZero) {
  EXPECT_EQ(launch_store(nullptr, new_number(), 1), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventRecord(new_event(), nullptr), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaErrorInvalidResourceHandle);
}

TEST_F(DeviceModel, HasDefaultStreamsADeviceAndAThread) {
  int* const number = new_number();
  for (cudaStream_t const stream : {cudaStreamLegacy, cudaStreamPerThread}) {
    on(0);
    EXPECT_EQ(launch_store(stream, number, 1), cudaSuccess);
    EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
    EXPECT_EQ(launch_store(stream, number, 2), cudaSuccess);
    on(1);
    EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);  // another one, which holds nothing
    EXPECT_EQ(read(number), 1);
    on(0);
    std::thread([&] { EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess); }).join();
    EXPECT_EQ(read(number), stream == cudaStreamLegacy ? 2 : 1);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    EXPECT_EQ(read(number), 2);
    EXPECT_EQ(cudaStreamDestroy(stream), cudaErrorInvalidResourceHandle);
  }
}

/// A blocking stream and the legacy default stream wait for each other; a non-blocking stream waits for neither.
TEST_F(DeviceModel, OrdersBlockingStreamsAndTheLegacyStream) {
  const auto expect = [](cudaStream_t other, bool waits) {
    int* const first = new_number();
    int* const second = new_number();
    EXPECT_EQ(launch_store(other, first, 1), cudaSuccess);
    EXPECT_EQ(launch_store(cudaStreamLegacy, second, 1), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(cudaStreamLegacy), cudaSuccess);
    EXPECT_EQ(read(second), 1);
    EXPECT_EQ(read(first) == 1, waits);
    EXPECT_EQ(launch_store(cudaStreamLegacy, first, 2), cudaSuccess);
    EXPECT_EQ(launch_store(other, second, 2), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(other), cudaSuccess);
    EXPECT_EQ(read(second), 2);
    EXPECT_EQ(read(first) == 2, waits);
    EXPECT_EQ(cudaStreamSynchronize(cudaStreamLegacy), cudaSuccess);
  };
  expect(new_stream(cudaStreamDefault), true);
  expect(cudaStreamPerThread, true);
  expect(new_stream(), false);
}

}  // namespace
}  // namespace gradwire::testing
