#pragma once
#include <mpi.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "gradwire/mpi.hpp"

namespace gradwire {

/// MPI's own words for an error code.
[[nodiscard]] std::string mpi_error_text(int code);

/// Throws Errc::transport naming the call and MPI's error, unless `code` is MPI_SUCCESS.
void mpi_check(int code, std::string_view call);

/// Whether MPI calls are still allowed.
[[nodiscard]] bool mpi_usable() noexcept;

/// Initialises MPI unless the program has, and returns the thread level provided. Throws Errc::unsupported when the
/// level is too low for `threads`, or MPI has been finalised.
int mpi_initialise(MpiThreads threads);

/// Collective over `parent`: a duplicate of it that returns errors instead of ending the program. Throws Errc::timeout
/// when other ranks do not call it within GRADWIRE_TIMEOUT_MS.
[[nodiscard]] MPI_Comm mpi_duplicate(MPI_Comm parent);

/// Collective over a duplicate: the node of each rank, as TransportInfo numbers them.
[[nodiscard]] std::vector<int> mpi_nodes(MPI_Comm duplicate);

/// The owner of a duplicate needs it no more. `clean`: nothing is outstanding on it. Local, never blocks.
void mpi_retire(MPI_Comm duplicate, bool clean) noexcept;

/// Bytes of the message that a probe has found.
[[nodiscard]] std::size_t mpi_message_size(MPI_Status status);

/// An MPI datatype and count that stand for `size` bytes, however large: one message either way, so that a long
/// receive matches a short send.
class MpiMessage {
 public:
  MpiMessage(std::size_t size, std::size_t max_count);
  MpiMessage(const MpiMessage&) = delete;
  MpiMessage& operator=(const MpiMessage&) = delete;
  ~MpiMessage();  ///< MPI keeps what pending operations still need of the type

  [[nodiscard]] int count() const noexcept { return count_; }
  [[nodiscard]] MPI_Datatype type() const noexcept { return type_; }

 private:
  int count_;
  MPI_Datatype type_ = MPI_BYTE;
};

}  // namespace gradwire
