#pragma once
#include <mpi.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gradwire/error.hpp"
#include "gradwire/transport.hpp"

namespace gradwire {

class MpiEndpoint;

/// A batch of MPI requests that complete together: an exchange, or the pieces of a dense all-reduce. Reused through the
/// transport's pool. A failure is kept and thrown again by every later poll. The endpoint's mutex guards everything.
class MpiOperation final : public Completion {
 public:
  enum class Kind { exchange, all_reduce };

  bool poll() override;
  [[nodiscard]] std::string describe() const override;

  // The rest is for the transport, the endpoint and the inbox: the caller holds the endpoint's mutex.

  /// Makes a fresh or reused operation active, with nothing in it yet.
  void begin(std::shared_ptr<MpiEndpoint> endpoint, Kind kind, Slot slot);
  /// Posts everything at once. MPI's errors become the operation's failure.
  void post_exchange(std::span<const Send> sends, std::span<const Recv> recvs);
  /// The same, one request per piece of at most max_count elements.
  void post_all_reduce(Tensor inout, MPI_Datatype type, MPI_Op op);
  /// The message for a receive has come and is `size` bytes long: takes it, or fails.
  void receive(std::size_t part, std::size_t size);

  /// Tests the requests; true once the operation has ended, well or badly.
  bool advance() noexcept;
  /// Fails an active operation. Its receives write nothing any more; true when MPI is done with its other buffers too.
  bool cancel(const Error& reason) noexcept;
  [[nodiscard]] bool active() const noexcept { return state_ == State::active; }
  /// Why it failed, if it did.
  [[nodiscard]] const std::optional<Error>& failure() const noexcept { return failure_; }

 private:
  enum class State { ended, active, failed };
  enum class Role { send, receive, reduce };
  struct Part {
    Role role;
    int peer;
    Bytes into;  // of a receive
    bool open = true;
  };

  template <class Post>
  void post(Post&& post_parts) noexcept;
  MPI_Request* add(const Part& part);
  void test_requests();
  [[nodiscard]] Error part_error(std::size_t part, int code) const;
  bool fail_with(const Error& error) noexcept;
  bool release_requests() noexcept;
  [[nodiscard]] std::string open_peers(Role role) const;

  std::shared_ptr<MpiEndpoint> endpoint_;  // the same in every use
  Kind kind_ = Kind::exchange;
  Slot slot_{};
  State state_ = State::ended;
  std::optional<Error> failure_;
  std::vector<Part> parts_;
  std::size_t open_parts_ = 0;
  std::vector<MPI_Request> requests_;  // of each part; null also for a receive whose message has not come yet
  std::vector<int> done_indices_;
  std::vector<MPI_Status> statuses_;
};

}  // namespace gradwire
