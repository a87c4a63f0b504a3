#pragma once
#include "gradwire/export.hpp"
#include "gradwire/transport.hpp"

namespace gradwire {

enum class MpiThreads {
  library,  ///< a progress thread of gradwire's may call MPI while the program does: needs MPI_THREAD_MULTIPLE
  caller,   ///< gradwire calls MPI only inside calls the program makes: any level will do
};

struct MpiOptions {
  const void* comm = nullptr;  ///< address of the MPI_Comm to duplicate; null means MPI_COMM_WORLD
  MpiThreads threads = MpiThreads::library;
  std::size_t max_count = 0x7fffffff;  ///< elements per MPI call; larger messages are split. Lowered only by tests
};

/// Collective over the given communicator, which is duplicated, so traffic never meets the program's own. Initialises
/// MPI when the program has not, and then finalises it at exit
/// (after a failure, for no longer than GRADWIRE_TIMEOUT_MS or 10 s). Lives in the component `mpi`: link gradwire::mpi.
/// Where there is a device its memory goes through pinned buffers, or, where MPI says that it takes device memory,
/// messages as they are: then call cudaSetDevice before make_mpi. GRADWIRE_MPI_DEVICE=auto|staged|direct overrules;
/// TransportInfo::detail says what is used.
/// Throws Errc::unsupported when MPI was initialised with too low a thread level, naming both levels, and for
/// GRADWIRE_MPI_DEVICE=direct where MPI does not say so.
[[nodiscard]] GRADWIRE_API Communicator make_mpi(const MpiOptions& options = {});

/// Whether this process was started by an MPI launcher (mpirun, srun with PMI). Does not initialise MPI.
[[nodiscard]] GRADWIRE_API bool launched_by_mpi() noexcept;

}  // namespace gradwire
