#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "transport/socket_mesh.hpp"

namespace gradwire {

/// What stands before each message on a connection.
struct SocketHeader {
  enum Kind : std::uint32_t { message, abort, farewell };
  std::uint32_t kind = message;
  std::uint32_t slot = 0;
  std::uint64_t size = 0;
};

/// One connection, non-blocking: what is on its way out, and the message that comes in.
class SocketPeer {
 public:
  SocketPeer() = default;
  explicit SocketPeer(int socket) noexcept : socket_(socket) {}
  SocketPeer(SocketPeer&& other) noexcept { swap(other); }
  SocketPeer& operator=(SocketPeer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~SocketPeer();

  /// Copies a message to what goes out, and writes what the connection takes.
  void send(SocketHeader header, ConstBytes body);
  /// True while bytes have not been written.
  bool flush();
  /// The next whole message. Throws Errc::transport when the connection is broken.
  struct Message {
    SocketHeader header;
    std::vector<std::byte> body;
  };
  [[nodiscard]] std::optional<Message> receive();
  [[nodiscard]] bool open() const noexcept { return socket_ >= 0; }
  void close() noexcept;

 private:
  void swap(SocketPeer& other) noexcept {
    std::swap(socket_, other.socket_);
    std::swap(out_, other.out_);
    std::swap(written_, other.written_);
    std::swap(in_, other.in_);
    std::swap(read_, other.read_);
  }
  bool read_into(std::byte* data, std::size_t begin, std::size_t size);

  int socket_ = -1;
  std::vector<std::byte> out_;
  std::size_t written_ = 0;
  Message in_;
  std::size_t read_ = 0;  // of the header and the body that come in
};

/// Connections to all other ranks, by rank; the own place is not open. Each has been answered by the rank that was
/// meant: an address may lead to another machine or rank. Throws Errc::timeout at the deadline, Errc::transport where
/// no address of a rank leads to it.
[[nodiscard]] std::vector<SocketPeer> connect_peers(const SocketListener& listener, int rank,
                                                    std::span<const SocketCard> cards, Deadline deadline);

}  // namespace gradwire
