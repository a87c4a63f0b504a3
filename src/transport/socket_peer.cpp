#include "transport/socket_peer.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/fail.hpp"

namespace gradwire {
namespace {

/// Messages are small; what claims to be larger is no message.
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 40;

}  // namespace

SocketPeer::~SocketPeer() { close(); }

void SocketPeer::close() noexcept {
  if (socket_ < 0) return;
  (void)shutdown(socket_, SHUT_WR);
  (void)::close(std::exchange(socket_, -1));
}

void SocketPeer::send(SocketHeader header, ConstBytes body) {
  const auto* const head = reinterpret_cast<const std::byte*>(&header);
  header.size = body.size;
  if (written_ == out_.size()) {
    out_.clear();
    written_ = 0;
  }
  out_.insert(out_.end(), head, head + sizeof header);
  out_.insert(out_.end(), body.data, body.data + body.size);
  (void)flush();
}

bool SocketPeer::flush() {
  while (open() && written_ < out_.size()) {
    const ssize_t sent = ::send(socket_, out_.data() + written_, out_.size() - written_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) break;  // full, or broken: reading tells
    written_ += static_cast<std::size_t>(sent);
  }
  return written_ < out_.size();
}

/// Reads on from where it stands; `data` is where bytes [begin, begin + size) of the message go.
bool SocketPeer::read_into(std::byte* data, std::size_t begin, std::size_t size) {
  while (read_ < begin + size) {
    const ssize_t got = recv(socket_, data + (read_ - begin), begin + size - read_, MSG_DONTWAIT);
    if (got > 0) {
      read_ += static_cast<std::size_t>(got);
    } else if (got == 0) {
      fail(Errc::transport, "its connection has been closed");
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return false;
    } else if (errno != EINTR) {
      fail(Errc::transport, "its connection broke: {}", std::strerror(errno));
    }
  }
  return true;
}

std::optional<SocketPeer::Message> SocketPeer::receive() {
  if (!open()) return std::nullopt;
  if (read_ < sizeof(SocketHeader)) {
    if (!read_into(reinterpret_cast<std::byte*>(&in_.header), 0, sizeof(SocketHeader))) return std::nullopt;
    if (in_.header.size > kMostBytes) fail(Errc::transport, "a message of {} bytes is none", in_.header.size);
    in_.body.resize(in_.header.size);
  }
  if (!read_into(in_.body.data(), sizeof(SocketHeader), in_.body.size())) return std::nullopt;
  read_ = 0;
  return std::exchange(in_, {});
}

}  // namespace gradwire
