#include "base/cuda.hpp"

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

}  // namespace gradwire::cuda
