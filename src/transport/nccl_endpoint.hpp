#pragma once
#include <nccl.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/cuda.hpp"
#include "base/device.hpp"
#include "transport/nccl_operation.hpp"
#include "transport/nccl_session.hpp"

#include "gradwire/buffer.hpp"

namespace gradwire {

struct NcclEndpointOptions {
  NcclComm comm;  ///< null where no other rank is reached by NCCL
  int device = 0;
  bool verify = false;
  std::vector<int> nccl_ranks;  ///< of each rank in `comm`; -1 where it is reached by staging
  std::shared_ptr<void> claim;  ///< on the host channel
};

/// One rank's end: the NCCL communicator, the stream that everything of it runs on, operations in the order of their
/// calls, and the helper thread that moves them on, hears of aborts, and takes the communicator down in the end.
class NcclEndpoint : public std::enable_shared_from_this<NcclEndpoint> {
 public:
  NcclEndpoint(Communicator host, NcclEndpointOptions options);
  NcclEndpoint(const NcclEndpoint&) = delete;
  NcclEndpoint& operator=(const NcclEndpoint&) = delete;

  /// Starts the helper thread, which shares ownership until close().
  void start();
  /// For the transport's destructor: never blocks. Fails what is in flight; the helper does the rest.
  void close() noexcept;
  void abort(std::string_view why) noexcept;
  void progress() noexcept;

  [[nodiscard]] std::mutex& mutex() noexcept { return mutex_; }
  [[nodiscard]] const Communicator& host() const noexcept { return host_; }
  [[nodiscard]] int nccl_rank(int rank) const noexcept { return options_.nccl_ranks[static_cast<std::size_t>(rank)]; }
  /// Whether all ranks are reached by NCCL.
  [[nodiscard]] bool whole() const noexcept { return whole_; }
  [[nodiscard]] bool alone() const noexcept { return host_.size() == 1; }
  [[nodiscard]] bool verify() const noexcept { return options_.verify; }
  [[nodiscard]] int device() const noexcept { return options_.device; }

  // The caller of these holds the mutex.

  /// Queues a begun operation and launches it where nothing is before it.
  void post(const std::shared_ptr<NcclOperation>& operation) noexcept;
  /// Moves one operation, and the queue before it.
  void serve(NcclOperation& operation) noexcept;
  [[nodiscard]] ncclComm_t comm() const noexcept { return options_.comm.get(); }
  [[nodiscard]] StreamRef stream() const noexcept { return stream_.ref(); }
  [[nodiscard]] StreamRef copy_stream() const noexcept { return copy_stream_.ref(); }
  /// Device memory that operations use in turn, in the order of the stream.
  [[nodiscard]] std::byte* scratch(std::size_t bytes);

 private:
  void help();
  void pump(bool all) noexcept;
  void listen();
  void launch_queue();
  void sweep();
  void fail_all(const Error& error) noexcept;
  void take_down(std::unique_lock<std::mutex>& lock) noexcept;
  [[nodiscard]] bool in_flight() const noexcept { return !queue_.empty() || !running_.empty(); }

  std::mutex mutex_;
  std::condition_variable wake_;
  Communicator host_;
  const bool helper_may_use_host_;
  NcclEndpointOptions options_;
  bool whole_ = true;
  device::Stream stream_;
  device::Stream copy_stream_;
  std::vector<Buffer> scratch_;  // not of a pool: peers may reach it directly
  std::deque<std::shared_ptr<NcclOperation>> queue_;
  bool launching_ = false;  // NCCL has not finished the call that launches the front of the queue
  std::vector<std::shared_ptr<NcclOperation>> running_;  // in the order of their launch
  std::optional<Error> failure_;                         // what every Work fails with from now on
  const Error nameless_failure_{Errc::aborted, "a rank aborted"};
  bool closing_ = false;
};

}  // namespace gradwire
