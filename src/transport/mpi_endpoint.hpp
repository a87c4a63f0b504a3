#pragma once
#include <mpi.h>

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "transport/mpi_inbox.hpp"
#include "transport/mpi_operation.hpp"

#include "gradwire/error.hpp"

namespace gradwire {

/// One rank's end of a duplicated communicator: its inbox, its operations in flight, and whether it was aborted. Shared
/// by the transport and its operations.
///
/// One mutex guards all of it, operations included: MPI serialises its callers inside anyway, and whoever is in there
/// moves everybody's messages.
class MpiEndpoint {
 public:
  MpiEndpoint(MPI_Comm comm, std::size_t max_count);
  MpiEndpoint(const MpiEndpoint&) = delete;
  MpiEndpoint& operator=(const MpiEndpoint&) = delete;
  ~MpiEndpoint() { close(); }

  [[nodiscard]] MPI_Comm comm() const noexcept { return comm_; }
  [[nodiscard]] std::size_t max_count() const noexcept { return max_count_; }
  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int size() const noexcept { return size_; }
  [[nodiscard]] std::mutex& mutex() const noexcept { return mutex_; }

  // These take the mutex.

  /// Moves data, and ends operations whose Work was dropped.
  void progress() noexcept;
  void abort(std::string_view why) noexcept;
  /// Fails everything in flight and gives up the communicator. The transport's destructor calls it.
  void close() noexcept;

  // The caller of these holds the mutex.

  [[nodiscard]] MpiInbox& inbox() noexcept { return inbox_; }
  /// What every Work fails with, once this or another rank has aborted.
  [[nodiscard]] const std::optional<Error>& abort_error() const noexcept { return abort_error_; }
  /// Keeps an active operation until it ends, also when its Work is dropped.
  void track(std::shared_ptr<MpiOperation> operation);
  void forget(const MpiOperation& operation) noexcept;
  /// Takes what has arrived, abort messages included.
  void pump() noexcept;
  /// Something went wrong on the communicator: it cannot be freed in good order.
  void mark_broken() noexcept { broken_ = true; }

 private:
  bool raise(int rank, std::string_view why) noexcept;
  void send_abort(std::string_view why);
  void cancel_all(const Error& reason) noexcept;
  void reap_dropped() noexcept;

  static constexpr std::size_t kAbortTextBytes = 240;

  MPI_Comm comm_;
  std::size_t max_count_;
  int rank_ = 0;
  int size_ = 1;
  mutable std::mutex mutex_;
  MpiInbox inbox_;
  std::vector<std::shared_ptr<MpiOperation>> in_flight_;
  bool broken_ = false;
  std::optional<Error> abort_error_;
  const Error nameless_abort_{Errc::aborted, "a rank aborted"};
  std::unique_ptr<std::array<char, kAbortTextBytes>> abort_text_;
  std::vector<MPI_Request> abort_sends_;
};

}  // namespace gradwire
