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
  int driver = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status == cudaSuccess) return devices > 0 ? "" : "this machine has no CUDA device";
  (void)cudaGetLastError();
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
    return "this machine has no CUDA driver (libcuda.so.1)";
  return cudaGetErrorString(status);
}

cudaStream_t native(StreamRef stream) {
  require(!stream.is_host(), "device memory needs a stream of the device, not StreamRef::host()");
  return static_cast<cudaStream_t>(stream.native());
}

unsigned most_blocks(unsigned most, unsigned threads) {
  constexpr unsigned kThreadsOfOne = 2048;  // that a multiprocessor holds
  const unsigned sms = environment().max_sms;
  return sms == 0 ? most : std::min(most, sms * (kThreadsOfOne / threads));
}

}  // namespace gradwire::cuda
