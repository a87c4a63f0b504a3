// nvcc reads the public headers, with its own pass for device code.
#include <gradwire/gradwire.hpp>
#include <gradwire/mpi.hpp>

__global__ void touch(float* x) { x[threadIdx.x] += 1.0F; }

// A native stream goes in by pointer; what comes out is the same pointer.
bool carries_stream(cudaStream_t stream) {
  const gradwire::StreamRef ref(stream);
  return !ref.is_host() && ref.native() == stream;
}

gradwire::Tensor device_view(float* data, std::size_t count) {
  return {data, count, gradwire::DType::f32, gradwire::Space::device};
}
