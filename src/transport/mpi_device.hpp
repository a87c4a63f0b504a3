#pragma once

namespace gradwire {

/// Whether this MPI says, after its initialisation, that it takes pointers to device memory: by
/// MPIX_Query_cuda_support() (Open MPI and what comes of it) or MPIX_GPU_query_support() (MPICH and what comes of it,
/// Cray's too). False for one that has neither.
[[nodiscard]] bool mpi_takes_device_memory();

}  // namespace gradwire
