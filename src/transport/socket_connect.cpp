#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>

#include "base/fail.hpp"
#include "transport/socket_peer.hpp"

namespace gradwire {
namespace {

using std::chrono::steady_clock;

/// The first words on a connection, 8 bytes in one segment. Who calls says its rank and the secret of whom it looks
/// for. Who accepts answers with its own rank and the caller's secret: only then has the call reached the rank that was
/// meant. Who calls says its words again on the one connection that it keeps.
struct Hello {
  std::uint32_t rank;
  std::uint32_t secret;
  friend bool operator==(const Hello&, const Hello&) = default;
};

class Socket {
 public:
  explicit Socket(int fd) noexcept : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket() {
    if (fd_ >= 0) (void)::close(fd_);
  }
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

/// A connection that may not lead to a rank of this mesh.
struct Candidate {
  Socket socket;
  bool greeted = false;    ///< its own end has said its words
  std::uint32_t rank = 0;  ///< of the other end, where it is accepted and greeted
  bool ready = false;
  bool over = false;
};

bool say(const Socket& socket, const Hello& hello) {
  return ::send(socket.get(), &hello, sizeof hello, MSG_NOSIGNAL) == sizeof hello;
}
bool hear(const Socket& socket, Hello& hello) { return recv(socket.get(), &hello, sizeof hello, 0) == sizeof hello; }

bool is_connected(const Socket& socket) {
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0;
}

/// The connection that is kept.
SocketPeer kept(Socket& socket) {
  const int on = 1;
  (void)setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  (void)setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  return SocketPeer(socket.release());
}

std::vector<std::uint32_t> addresses_of(const SocketCard& card, const SocketCard& own) {
  std::vector<std::uint32_t> addresses;
  if (card.host == own.host) addresses.push_back(htonl(INADDR_LOOPBACK));
  for (const std::uint32_t address : card.addresses) {
    if (address != 0) addresses.push_back(address);
  }
  return addresses;
}

std::string words(const std::vector<std::uint32_t>& addresses) {
  std::vector<std::string> texts;
  for (const std::uint32_t address : addresses) {
    std::array<char, INET_ADDRSTRLEN> text{};
    in_addr numeric{};
    numeric.s_addr = address;
    (void)inet_ntop(AF_INET, &numeric, text.data(), text.size());
    texts.emplace_back(text.data());
  }
  return texts.empty() ? "it has none" : fmt::format("{}", fmt::join(texts, ", "));
}

/// One rank's calls to the ranks below it, all addresses of one rank at once, and the calls of those above it, which
/// are answered all the time.
class Mesh {
 public:
  Mesh(const SocketListener& listener, int rank, std::span<const SocketCard> cards, Deadline deadline)
      : listener_(listener), cards_(cards), self_(static_cast<std::size_t>(rank)), deadline_(deadline) {
    peers_.resize(cards.size());
  }

  std::vector<SocketPeer> connect() {
    for (std::size_t peer = 0; peer < self_; ++peer) call(peer);
    for (std::size_t missing = 1; missing > 0;) {
      missing = 0;
      for (std::size_t peer = self_ + 1; peer < peers_.size(); ++peer) missing += peers_[peer].open() ? 0 : 1;
      if (missing > 0 && !turn()) {
        fail(Errc::timeout, "{} ranks above rank {} have not connected by TCP until the deadline", missing, self_);
      }
    }
    return std::move(peers_);
  }

 private:
  [[nodiscard]] Hello hello_to(std::size_t peer) const {
    return {static_cast<std::uint32_t>(self_), cards_[peer].secret};
  }

  void call(std::size_t peer) {
    const std::vector<std::uint32_t> addresses = addresses_of(cards_[peer], cards_[self_]);
    for (const std::uint32_t address : addresses) start_call(address, cards_[peer].port);
    while (!peers_[peer].open()) {
      if (calls_.empty()) {
        fail(Errc::transport, "rank {} cannot connect to rank {} by TCP: none of its addresses leads to it: {}", self_,
             peer, words(addresses));
      }
      if (!turn()) {
        fail(Errc::timeout, "rank {} cannot connect to rank {} by TCP: it has not answered until the deadline: {}",
             self_, peer, words(addresses));
      }
      for (Candidate& each : calls_) each.over = each.ready && !advance_call(each, peer);
      std::erase_if(calls_, [](const Candidate& each) { return each.over; });
    }
    calls_.clear();
  }

  void start_call(std::uint32_t address, std::uint32_t port) {
    Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (socket.get() < 0) fail(Errc::transport, "socket failed: {}", std::strerror(errno));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = address;
    to.sin_port = static_cast<in_port_t>(port);
    const int result = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to);
    if (result == 0 || errno == EINPROGRESS) calls_.push_back({std::move(socket)});
  }

  /// False when nothing more comes of it: it leads elsewhere, or another one is kept.
  bool advance_call(Candidate& call, std::size_t peer) {
    if (!call.greeted) {
      call.greeted = true;
      return is_connected(call.socket) && say(call.socket, hello_to(peer));
    }
    Hello answer{};
    const Hello expected{static_cast<std::uint32_t>(peer), cards_[self_].secret};
    if (!hear(call.socket, answer) || answer != expected || peers_[peer].open()) return false;
    if (say(call.socket, hello_to(peer))) peers_[peer] = kept(call.socket);
    return false;
  }

  bool advance_caller(Candidate& caller) {
    Hello hello{};
    if (!hear(caller.socket, hello) || hello.secret != cards_[self_].secret) return false;
    if (hello.rank <= self_ || hello.rank >= peers_.size() || peers_[hello.rank].open()) return false;
    if (!caller.greeted) {
      caller.greeted = true;
      caller.rank = hello.rank;
      return say(caller.socket, {static_cast<std::uint32_t>(self_), cards_[hello.rank].secret});
    }
    if (hello.rank == caller.rank) peers_[hello.rank] = kept(caller.socket);
    return false;
  }

  void accept_one() {
    Socket socket(accept4(listener_.socket(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.get() >= 0) {
      callers_.push_back({std::move(socket)});
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      fail(Errc::transport, "accept failed: {}", std::strerror(errno));
    }
  }

  /// Waits until something happens, serves callers, and marks those calls that are ready. False at the deadline.
  bool turn() {
    polled_.assign(1, {listener_.socket(), POLLIN, 0});
    for (const Candidate& caller : callers_) polled_.push_back({caller.socket.get(), POLLIN, 0});
    for (const Candidate& call : calls_) {
      polled_.push_back({call.socket.get(), static_cast<short>(call.greeted ? POLLIN : POLLOUT), 0});
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - steady_clock::now()).count();
    const int timeout = static_cast<int>(std::clamp<decltype(left)>(left, 0, 1 << 30));
    const int count = poll(polled_.data(), polled_.size(), timeout);
    if (count == 0) return false;
    if (count < 0 && errno != EINTR) fail(Errc::transport, "poll failed: {}", std::strerror(errno));
    std::size_t next = 1;
    const auto is_ready = [&] { return count > 0 && polled_[next++].revents != 0; };
    for (Candidate& caller : callers_) caller.ready = is_ready();
    for (Candidate& call : calls_) call.ready = is_ready();
    for (Candidate& caller : callers_) caller.over = caller.ready && !advance_caller(caller);
    std::erase_if(callers_, [](const Candidate& caller) { return caller.over; });
    if (count > 0 && polled_[0].revents != 0) accept_one();
    return true;
  }

  const SocketListener& listener_;
  const std::span<const SocketCard> cards_;
  const std::size_t self_;
  const Deadline deadline_;
  std::vector<SocketPeer> peers_;
  std::vector<Candidate> calls_;    // to the rank that is called, in the order of its addresses
  std::vector<Candidate> callers_;  // which have not yet said that they keep the connection
  std::vector<pollfd> polled_;
};

}  // namespace

std::vector<SocketPeer> connect_peers(const SocketListener& listener, int rank, std::span<const SocketCard> cards,
                                      Deadline deadline) {
  return Mesh(listener, rank, cards, deadline).connect();
}

}  // namespace gradwire
