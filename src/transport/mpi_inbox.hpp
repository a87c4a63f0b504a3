#pragma once
#include <mpi.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "gradwire/types.hpp"

namespace gradwire {

class MpiOperation;

/// Matches arriving messages with the receives that wait for them. A receive is given to MPI only once a probe has told
/// how long its message is: MPI calls a message longer than its receive an error of the program, and Open MPI's
/// zero-copy paths write past the end of the buffer before they report it. Every receive on the communicator passes
/// through here under one lock, so nothing can come between a probe and its receive.
///
/// The caller of every function holds the endpoint's mutex.
class MpiInbox {
 public:
  /// An abort message of another rank.
  struct Abort {
    int rank;
    std::string why;
  };

  explicit MpiInbox(MPI_Comm comm) : comm_(comm) {}

  /// Receive number `part` of the operation waits for the next message from `peer` in `slot` that no earlier one takes.
  void wait_for(MpiOperation& operation, std::size_t part, int peer, Slot slot);
  /// The operation waits no more.
  void withdraw(const MpiOperation& operation) noexcept;
  /// Starts the receives whose messages have come. Returns an abort message as soon as it meets one.
  [[nodiscard]] std::optional<Abort> pump();
  /// Takes a message that its receiver has no room for, so that the sender's side can end.
  void discard(int peer, Slot slot, std::size_t size);
  /// True when MPI holds none of the inbox's memory any more; what it still holds is given up, not freed.
  [[nodiscard]] bool close() noexcept;

 private:
  struct Waiting {
    MpiOperation* operation;
    std::size_t part;
    int peer;
    int tag;
    bool first;  // of those with this peer and tag
  };
  struct Found {
    int peer;
    int tag;
    std::size_t size;
  };
  struct Discarded {
    std::vector<std::byte> memory;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  [[nodiscard]] std::optional<Found> probe(int peer, int tag) const;
  [[nodiscard]] bool deliver(const Found& found);
  [[nodiscard]] std::optional<Abort> look_past();
  [[nodiscard]] Abort receive_abort(const Found& found) const;
  void remove(std::size_t index) noexcept;
  void test_discarded();

  MPI_Comm comm_;
  std::vector<Waiting> waiting_;  // in the order they were posted
  std::vector<Discarded> discarded_;
};

}  // namespace gradwire
