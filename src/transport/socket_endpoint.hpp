#pragma once
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "transport/socket_operation.hpp"
#include "transport/socket_peer.hpp"

namespace gradwire {

/// Slots above the users' that sums go through: they match in the order of calls, whatever their slots.
inline constexpr Slot kSumSlot{kMaxSlot + 4};

/// One rank's connections, messages that nobody has asked for yet, and receives whose message has not come. One mutex
/// guards all of it, operations included.
class SocketEndpoint {
 public:
  SocketEndpoint(int rank, std::vector<SocketPeer> peers) : rank_(rank), peers_(std::move(peers)) {}

  [[nodiscard]] std::mutex& mutex() noexcept { return mutex_; }
  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int size() const noexcept { return static_cast<int>(peers_.size()); }

  void progress() noexcept;
  void abort(std::string_view why) noexcept;
  /// Says farewell and closes the connections.
  void close() noexcept;

  // The caller of these holds the mutex.

  [[nodiscard]] const std::optional<Error>& failure() const noexcept { return failure_; }
  void send(int to, Slot slot, ConstBytes bytes);
  void receive(const std::shared_ptr<SocketOperation>& operation, std::size_t part, int from, Slot slot);
  void withdraw(const SocketOperation& operation) noexcept;
  /// Writes and reads what the connections take and have.
  void pump() noexcept;

 private:
  struct Pending {
    std::shared_ptr<SocketOperation> operation;
    std::size_t part;
  };
  struct Mailbox {
    std::deque<std::vector<std::byte>> arrived;
    std::deque<Pending> pending;
  };

  [[nodiscard]] SocketPeer& peer(int rank) noexcept { return peers_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] Mailbox& mailbox(int from, Slot slot) { return mailboxes_[{from, slot}]; }
  void read_from(int rank);
  void take(int from, SocketPeer::Message message);
  void fail_all(const Error& error) noexcept;

  const int rank_;
  std::mutex mutex_;
  std::vector<SocketPeer> peers_;
  std::map<std::pair<int, Slot>, Mailbox> mailboxes_;
  std::optional<Error> failure_;
  const Error nameless_failure_{Errc::aborted, "a rank aborted"};
};

}  // namespace gradwire
