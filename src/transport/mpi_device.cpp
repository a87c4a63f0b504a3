#include "transport/mpi_device.hpp"

#include <mpi.h>
#ifdef GRADWIRE_MPI_EXT_QUERIES_CUDA
#include <mpi-ext.h>
#endif

#include "transport/mpi_session.hpp"

namespace gradwire {

bool mpi_takes_device_memory() {
#if defined(GRADWIRE_MPI_EXT_QUERIES_CUDA)
  return MPIX_Query_cuda_support() == 1;
#elif defined(GRADWIRE_MPI_QUERIES_GPU)
  int is_supported = 0;
  mpi_check(MPIX_GPU_query_support(MPIX_GPU_SUPPORT_CUDA, &is_supported), "MPIX_GPU_query_support");
  return is_supported != 0;
#else
  return false;
#endif
}

}  // namespace gradwire
