#pragma once
#include <mpi.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "gradwire/error.hpp"
#include "gradwire/transport.hpp"

namespace gradwire {

class MpiEndpoint;

/// A batch of MPI requests that complete together: an exchange, or the pieces of a dense all-reduce. Reused by the
/// endpoint's pool. Thread-safe; a failure is kept and thrown again by every later poll.
class MpiOperation final : public Completion {
 public:
  enum class Kind { exchange, all_reduce };

  /// Makes a reused operation active again, with no requests yet.
  void begin(std::shared_ptr<MpiEndpoint> endpoint, Kind kind, Slot slot);
  /// Posts everything at once. False when that failed, or the communicator was aborted: poll() throws why.
  bool post_exchange(std::span<const Send> sends, std::span<const Recv> recvs);
  /// The same, one request per piece of at most max_count elements.
  bool post_all_reduce(Tensor inout, MPI_Datatype type, MPI_Op op);

  bool poll() override;
  [[nodiscard]] std::string describe() const override;

  /// Tests the requests; true once the operation has ended, well or badly. Never throws.
  bool advance() noexcept;
  /// Fails an active operation. Receives are cancelled, so that nothing is written into their buffers any more; true
  /// when nothing is left outstanding (see release_requests).
  bool cancel(const Error& reason) noexcept;
  /// Why it failed, if it did.
  [[nodiscard]] std::optional<Error> failure() const;

 private:
  enum class State { ended, active, failed };
  enum class Role { send, receive, reduce };
  struct Peer {
    int rank;
    Role role;
  };

  template <class Post>
  bool post(Post&& post_requests);
  MPI_Request* add(int rank, Role role);
  bool test_requests();
  [[nodiscard]] Error request_error(std::size_t index, int code) const;
  void fail_with(const Error& error);
  bool release_requests() noexcept;
  [[nodiscard]] std::string pending_peers(Role role) const;

  mutable std::mutex mutex_;
  std::shared_ptr<MpiEndpoint> endpoint_;  // while active: keeps the communicator alive
  Kind kind_ = Kind::exchange;
  Slot slot_{};
  State state_ = State::ended;
  std::optional<Error> failure_;
  std::vector<MPI_Request> requests_;
  std::vector<Peer> peers_;  // of each request
  std::vector<int> done_indices_;
  std::vector<MPI_Status> statuses_;
};

}  // namespace gradwire
