#pragma once
#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

#include "gradwire/types.hpp"

/// \file What gradwire needs of the CUDA runtime, for .cu files, base/device_cuda.cpp and the NCCL transport; all else
/// goes through base/device.hpp. nvcc reads it, so it includes nothing that nvcc cannot compile.
namespace gradwire::cuda {

/// Throws Errc::device saying what failed and why.
void check(cudaError_t status, std::string_view what);

/// Why no device can be used, in words; empty where one can.
[[nodiscard]] std::string device_problem();

/// Throws Errc::invalid_argument for the host's stream: device memory is used in the order of a stream of its own.
[[nodiscard]] cudaStream_t native(StreamRef stream);

/// Blocks of so many threads that a launch may have: `most`, or fewer so that kernels stay on GRADWIRE_MAX_SMS of the
/// device's multiprocessors' worth of threads.
[[nodiscard]] unsigned most_blocks(unsigned most, unsigned threads);

}  // namespace gradwire::cuda
