#pragma once
#include "base/env.hpp"
#include "base/fail.hpp"
#include "transport/staged.hpp"

namespace gradwire {

/// The way through an MPI that says, or does not say, that it takes device memory. Throws Errc::unsupported for
/// MpiDevice::direct where it does not.
[[nodiscard]] inline DevicePath device_path(MpiDevice wanted, bool takes_device) {
  if (wanted == MpiDevice::direct && !takes_device) {
    fail(Errc::unsupported,
         "GRADWIRE_MPI_DEVICE=direct: this MPI does not say that it takes device memory (MPIX_Query_cuda_support or "
         "MPIX_GPU_query_support); auto and staged go through pinned buffers");
  }
  return takes_device && wanted != MpiDevice::staged ? DevicePath::direct : DevicePath::staged;
}

}  // namespace gradwire
