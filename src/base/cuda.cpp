#include "base/cuda.hpp"

#include <algorithm>

#include "base/env.hpp"
#include "base/fail.hpp"

namespace gradwire::cuda {

void check(cudaError_t status, std::string_view what) {
  if (status != cudaSuccess) fail(Errc::device, "{}: {}", what, cudaGetErrorString(status));
}

std::string device_problem() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess) return cudaGetErrorString(status);
  return devices > 0 ? "" : "no device";
}

cudaStream_t native(StreamRef stream) {
  require(!stream.is_host(), "device memory needs a stream of the device, not StreamRef::host()");
  return static_cast<cudaStream_t>(stream.native());
}

unsigned most_blocks(unsigned most) {
  constexpr unsigned kBlocksOnOne = 8;  // of 2048 threads that a multiprocessor holds
  const unsigned sms = environment().max_sms;
  return sms == 0 ? most : std::min(most, sms * kBlocksOnOne);
}

}  // namespace gradwire::cuda
