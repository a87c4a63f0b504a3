// MPI's own allreduce, the peer that gradwire is measured against. Which algorithm it runs is told to the MPI library,
// not to this program: see compare.sh.
#include <mpi.h>

#include "allreduce_bench.hpp"

namespace {

void blocking(float* values, std::size_t count) {
  MPI_Allreduce(MPI_IN_PLACE, values, static_cast<int>(count), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

void nonblocking(float* values, std::size_t count) {
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Iallreduce(MPI_IN_PLACE, values, static_cast<int>(count), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &request);
  MPI_Wait(&request, MPI_STATUS_IGNORE);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace gradwire::bench;
  MPI_Init(&argc, &argv);
  const Options options = read_options("mpi", argc, argv);
  const int code = run(options, {{options.label, options.nonblocking ? nonblocking : blocking}});
  MPI_Finalize();
  return code;
}
