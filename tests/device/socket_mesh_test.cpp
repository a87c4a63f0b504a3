// How the TCP connections of the NCCL transport's host channel come about: addresses that lead elsewhere.
#include "transport/socket_mesh.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <thread>
#include <vector>

#include "device/nccl_suite.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;

/// One that is free on all addresses.
std::uint32_t free_port() { return SocketListener().card().port; }

/// A socket that listens on one address; the kernel accepts whatever comes.
int listen_on(const char* address, std::uint32_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_in own{};
  own.sin_family = AF_INET;
  own.sin_addr.s_addr = inet_addr(address);
  own.sin_port = static_cast<in_port_t>(port);
  EXPECT_EQ(bind(socket, reinterpret_cast<const sockaddr*>(&own), sizeof own), 0) << address;
  EXPECT_EQ(listen(socket, 16), 0);
  return socket;
}

/// One end that does not know the secret: it is silent, or says back what it hears, then closes.
class Stranger {
 public:
  Stranger(const char* address, std::uint32_t port, bool answers) : socket_(listen_on(address, port)) {
    if (answers) thread_ = std::jthread([this](const std::stop_token& stop) { echo(stop); });
  }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;
  ~Stranger() {
    if (thread_.joinable()) {
      thread_.request_stop();
      thread_.join();
    }
    EXPECT_EQ(::close(socket_), 0);
  }

 private:
  void echo(const std::stop_token& stop) const {
    while (!stop.stop_requested()) {
      const int caller = accept(socket_, nullptr, nullptr);
      if (caller >= 0) {
        std::array<char, 64> words{};
        const ssize_t size = recv(caller, words.data(), words.size(), 0);
        if (size > 0) (void)::send(caller, words.data(), static_cast<std::size_t>(size), MSG_NOSIGNAL);
        (void)::close(caller);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  int socket_;
  std::jthread thread_;
};

/// Ranks whose listeners are on one address of their own, and what their cards say.
struct Ends {
  std::vector<SocketListener> listeners;
  std::vector<SocketCard> cards;

  void add(int socket, std::uint32_t port, std::initializer_list<const char*> addresses) {
    SocketListener& listener = listeners.emplace_back();
    EXPECT_GE(dup2(socket, listener.socket()), 0);
    EXPECT_EQ(::close(socket), 0);
    SocketCard card = listener.card();
    card.addresses = {};
    std::size_t count = 0;
    for (const char* const address : addresses) card.addresses[count++] = inet_addr(address);
    card.port = port;
    card.host = cards.size() + 1;  // a machine for each
    cards.push_back(card);
  }
  Communicator connect(std::size_t rank, Deadline deadline) {
    return make_socket_mesh(std::move(listeners[rank]), static_cast<int>(rank), cards, deadline);
  }
};

TEST(SocketMesh, AddressesThatLeadElsewhereArePassedOver) {
  const std::uint32_t port = free_port();
  const Stranger silent("127.0.0.2", port, false);
  const Stranger echo("127.0.0.3", port, true);
  Ends ends;
  ends.add(listen_on("127.0.0.4", port), port, {"127.0.0.9", "127.0.0.2", "127.0.0.3", "127.0.0.4"});
  // Rank 1 listens on the same port: rank 2 reaches it by the first address that it has of rank 1, and by that of rank
  // 0.
  ends.add(listen_on("127.0.0.5", port), port, {"127.0.0.4", "127.0.0.5", "127.0.0.5"});
  const std::uint32_t other_port = free_port();
  ends.add(listen_on("127.0.0.6", other_port), other_port, {"127.0.0.6"});

  std::vector<std::jthread> ranks;
  for (std::size_t rank = 0; rank < 3; ++rank) {
    ranks.emplace_back([&ends, rank] {
      const Outcome outcome = outcome_of([&] {
        const Communicator comm = ends.connect(rank, std::chrono::steady_clock::now() + std::chrono::seconds(5));
        comm.barrier(std::chrono::steady_clock::now() + std::chrono::seconds(5));
      });
      EXPECT_EQ(outcome.code, Errc::ok) << "rank " << rank << ": " << outcome.message;
    });
  }
}

TEST(SocketMesh, ARankThatNoAddressLeadsToIsNamedWithThem) {
  const std::uint32_t port = free_port();
  const Stranger silent("127.0.0.2", port, false);
  const Stranger echo("127.0.0.3", port, true);
  const auto outcome_over = [&](const char* address) {
    Ends ends;
    ends.add(listen_on("127.0.0.4", port), port, {address});
    const std::uint32_t other_port = free_port();
    ends.add(listen_on("127.0.0.6", other_port), other_port, {});
    return outcome_of(
        [&] { (void)ends.connect(1, std::chrono::steady_clock::now() + std::chrono::milliseconds(100)); });
  };
  const Outcome silence = outcome_over("127.0.0.2");
  EXPECT_EQ(silence.code, Errc::timeout);
  EXPECT_THAT(silence.message, HasSubstr("rank 1 cannot connect to rank 0 by TCP"));
  EXPECT_THAT(silence.message, HasSubstr("127.0.0.2"));
  const Outcome strange = outcome_over("127.0.0.3");
  EXPECT_EQ(strange.code, Errc::transport);
  EXPECT_THAT(strange.message, HasSubstr("none of its addresses leads to it: 127.0.0.3"));
}

TEST(SocketMesh, InterfacesAreChosenAsNcclDoes) {
  EXPECT_TRUE(takes_interface("", "eth0"));
  EXPECT_TRUE(takes_interface("ib,eth", "eth0"));
  EXPECT_FALSE(takes_interface("ib,eth", "docker0"));
  EXPECT_FALSE(takes_interface("=eth", "eth0"));
  EXPECT_TRUE(takes_interface("=ib0,eth0", "eth0"));
  EXPECT_FALSE(takes_interface("=eth0", "eth01"));
  EXPECT_FALSE(takes_interface("^docker,lo", "docker0"));
  EXPECT_TRUE(takes_interface("^docker,lo", "eth0"));
  EXPECT_TRUE(takes_interface("^=eth0", "eth01"));
  EXPECT_FALSE(takes_interface("^=eth0", "eth0"));

  ASSERT_EQ(setenv("NCCL_SOCKET_IFNAME", "no_such_interface", 1), 0);
  EXPECT_EQ(SocketListener().card().addresses[0], 0U);
  ASSERT_EQ(unsetenv("NCCL_SOCKET_IFNAME"), 0);
}

}  // namespace
}  // namespace gradwire::test
