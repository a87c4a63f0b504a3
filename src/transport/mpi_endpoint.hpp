#pragma once
#include <mpi.h>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "transport/mpi_operation.hpp"
#include "transport/pool.hpp"

#include "gradwire/error.hpp"

namespace gradwire {

/// One rank's end of a duplicated communicator: its operations in flight and its abort channel. Shared by the transport
/// and, while they are in flight, by its operations.
class MpiEndpoint : public std::enable_shared_from_this<MpiEndpoint> {
 public:
  MpiEndpoint(MPI_Comm comm, std::size_t max_count);
  MpiEndpoint(const MpiEndpoint&) = delete;
  MpiEndpoint& operator=(const MpiEndpoint&) = delete;
  ~MpiEndpoint();

  [[nodiscard]] MPI_Comm comm() const noexcept { return comm_; }
  [[nodiscard]] std::size_t max_count() const noexcept { return max_count_; }
  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int size() const noexcept { return size_; }

  /// An active operation, kept among those in flight until it ends, also when its Work is dropped.
  [[nodiscard]] std::shared_ptr<MpiOperation> start(MpiOperation::Kind kind, Slot slot);
  void forget(const MpiOperation& operation) noexcept;

  /// What every Work fails with, once this or another rank has aborted.
  [[nodiscard]] std::optional<Error> abort_error() const;
  /// Cheap enough for every poll: asks MPI for an abort message every kAbortInterval-th time.
  void look_for_abort() noexcept;
  /// Moves data, ends operations whose Work was dropped, and asks for an abort message.
  void progress() noexcept;
  void abort(std::string_view why) noexcept;

  /// Something went wrong on the communicator: it is not fit for being freed in good order.
  void mark_broken() noexcept { broken_ = true; }
  /// Ends everything in flight. The transport's destructor calls it.
  void close() noexcept;

 private:
  static constexpr std::size_t kAbortTextBytes = 240;
  static constexpr unsigned kAbortInterval = 16;
  struct AbortMessages {  // memory that MPI may hold on to, given up rather than freed in that case
    std::array<char, kAbortTextBytes> in{};
    std::array<char, kAbortTextBytes> out{};
  };

  void receive_abort() noexcept;
  bool raise(int rank, std::string_view why) noexcept;
  void send_abort(std::string_view why);
  void cancel_all(const Error& reason) noexcept;
  void reap_dropped() noexcept;
  bool close_abort_channel() noexcept;

  MPI_Comm comm_;
  std::size_t max_count_;
  int rank_ = 0;
  int size_ = 1;
  Pool<MpiOperation> pool_;

  std::mutex in_flight_mutex_;  // taken before an operation's own
  std::vector<std::shared_ptr<MpiOperation>> in_flight_;

  std::atomic<unsigned> polls_{0};
  std::atomic<bool> aborted_{false};
  std::atomic<bool> broken_{false};
  mutable std::mutex reason_mutex_;
  std::optional<Error> reason_;

  std::mutex channel_mutex_;
  std::unique_ptr<AbortMessages> messages_ = std::make_unique<AbortMessages>();
  MPI_Request abort_recv_ = MPI_REQUEST_NULL;
  std::vector<MPI_Request> abort_sends_;
};

}  // namespace gradwire
