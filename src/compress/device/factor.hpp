#pragma once
#include <span>

#include "compress/factor_ops.hpp"

/// \file Low rank on device memory: compress/factor_ops.hpp, all pointers of the device. Calls only launch, several
/// jobs at a time, in the order of the stream; they throw Errc::device where that fails, and Errc::unsupported in a
/// build without CUDA. How many blocks a grid has changes no bit.
namespace gradwire::device {

void times(std::span<const kernels::MatrixTimes> jobs, StreamRef stream);
void transposed_times(std::span<const kernels::MatrixTimes> jobs, StreamRef stream);
void expand(std::span<const kernels::ExpandJob> jobs, StreamRef stream);
void orthonormalise(std::span<const kernels::OrthonormaliseJob> jobs, StreamRef stream);

}  // namespace gradwire::device
