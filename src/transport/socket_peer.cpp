#include "transport/socket_peer.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/fail.hpp"

namespace gradwire {
namespace {

using std::chrono::steady_clock;
/// How long one address may take to answer before the next one is tried.
constexpr std::chrono::seconds kConnectPatience{3};
/// Messages are small; what claims to be larger is no message.
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 40;

struct Hello {
  std::uint32_t rank;
  std::uint32_t secret;
};

class Socket {
 public:
  explicit Socket(int fd) noexcept : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&&) = delete;
  ~Socket() {
    if (fd_ >= 0) (void)::close(fd_);
  }
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

/// Until the socket is ready for `events`, or the deadline.
bool wait_for(int socket, short events, Deadline deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now()).count();
  pollfd poll_fd{socket, events, 0};
  return poll(&poll_fd, 1, static_cast<int>(std::clamp<decltype(left)>(left, 0, 1 << 30))) > 0;
}

/// Both ends know each other: 8 bytes, which the first segment of a connection holds.
bool read_hello(int socket, Hello& hello, Deadline deadline) {
  return wait_for(socket, POLLIN, deadline) && recv(socket, &hello, sizeof hello, 0) == sizeof hello;
}

void without_delay(int socket) {
  const int on = 1;
  (void)setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  (void)setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

int connect_to(std::uint32_t address, std::uint32_t port, const Hello& hello, Deadline deadline) {
  Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.get() < 0) fail(Errc::transport, "socket failed: {}", std::strerror(errno));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = address;
  to.sin_port = static_cast<in_port_t>(port);
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
    if (errno != EINPROGRESS || !wait_for(socket.get(), POLLOUT, deadline)) return -1;
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error != 0) return -1;
  }
  without_delay(socket.get());
  if (::send(socket.get(), &hello, sizeof hello, MSG_NOSIGNAL) != sizeof hello) return -1;
  return socket.release();
}

SocketPeer connect_to(const SocketCard& card, const SocketCard& own, const Hello& hello, Deadline deadline) {
  std::vector<std::uint32_t> addresses;
  if (card.host == own.host) addresses.push_back(htonl(INADDR_LOOPBACK));
  for (const std::uint32_t address : card.addresses) {
    if (address != 0) addresses.push_back(address);
  }
  for (const std::uint32_t address : addresses) {
    const Deadline own_deadline = std::min<Deadline>(deadline, steady_clock::now() + kConnectPatience);
    if (const int socket = connect_to(address, card.port, hello, own_deadline); socket >= 0) return SocketPeer(socket);
  }
  return {};
}

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

std::vector<SocketPeer> connect_peers(const SocketListener& listener, int rank, std::span<const SocketCard> cards,
                                      Deadline deadline) {
  const auto self = static_cast<std::size_t>(rank);
  std::vector<SocketPeer> peers(cards.size());
  for (std::size_t peer = 0; peer < self; ++peer) {
    const Hello hello{static_cast<std::uint32_t>(rank), cards[peer].secret};
    peers[peer] = connect_to(cards[peer], cards[self], hello, deadline);
    if (!peers[peer].open()) fail(Errc::timeout, "rank {} cannot connect to rank {} by TCP", rank, peer);
  }
  for (std::size_t missing = cards.size() - 1 - self; missing > 0;) {
    if (!wait_for(listener.socket(), POLLIN, deadline)) {
      fail(Errc::timeout, "{} ranks above rank {} have not connected by TCP until the deadline", missing, rank);
    }
    Socket socket(accept4(listener.socket(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    Hello hello{};
    if (socket.get() < 0 ||
        !read_hello(socket.get(), hello, std::min<Deadline>(deadline, steady_clock::now() + kConnectPatience)))
      continue;
    if (hello.secret != cards[self].secret || hello.rank <= self || hello.rank >= peers.size()) continue;  // a stranger
    if (peers[hello.rank].open()) continue;
    without_delay(socket.get());
    peers[hello.rank] = SocketPeer(socket.release());
    --missing;
  }
  return peers;
}

}  // namespace gradwire
