#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gradwire/error.hpp"
#include "gradwire/transport.hpp"

namespace gradwire {

class SocketEndpoint;

/// An exchange over connections, of which only the receives can be pending: sends are copied. An all-reduce is one too,
/// into memory of its own. The endpoint's mutex guards everything.
class SocketOperation final : public Completion, public std::enable_shared_from_this<SocketOperation> {
 public:
  bool poll() override;
  [[nodiscard]] std::string describe() const override;

  // The rest is for the transport and the endpoint: the caller holds the endpoint's mutex.

  void begin(std::shared_ptr<SocketEndpoint> endpoint, Slot slot);
  void post(std::span<const Send> sends, std::span<const Recv> recvs);
  /// Sends the tensor to everybody, and sums once theirs are here: in the order of ranks, so that sums have the same
  /// bits everywhere.
  void post_all_reduce(Tensor inout);
  /// The message for receive number `part`.
  void deliver(std::size_t part, const std::vector<std::byte>& message);
  void fail_with(const Error& error) noexcept;
  [[nodiscard]] bool active() const noexcept { return pending_ > 0 && !failure_; }

 private:
  struct Part {
    Bytes into;
    int from;
    bool open = true;
  };
  void sum();

  std::shared_ptr<SocketEndpoint> endpoint_;
  Slot slot_{};
  std::vector<Part> parts_;
  std::size_t pending_ = 0;
  std::optional<Error> failure_;
  Tensor tensor_{};  // of an all-reduce
  std::vector<std::byte> terms_;
};

}  // namespace gradwire
