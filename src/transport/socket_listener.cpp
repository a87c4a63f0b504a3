#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include "base/fail.hpp"
#include "transport/socket_mesh.hpp"

namespace gradwire {
namespace {

void check(int result, std::string_view call) {
  if (result < 0) fail(Errc::transport, "{} failed: {}", call, std::strerror(errno));
}

/// The same for all processes of one boot of one machine, containers with their own host names apart.
std::uint64_t host_identity() {
  std::string name(256, '\0');
  if (gethostname(name.data(), name.size() - 1) != 0) name.clear();
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  std::uint64_t hash = 0xcbf29ce484222325U;  // FNV-1a: the same in every process, which std::hash does not promise
  for (const char c : name + boot) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return hash;
}

/// Addresses that other machines may reach; those of interfaces that are up.
void list_addresses(SocketCard& card) {
  ifaddrs* all = nullptr;
  check(getifaddrs(&all), "getifaddrs");
  std::size_t count = 0;
  for (const ifaddrs* each = all; each != nullptr && count < SocketCard::kMaxAddresses; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET) continue;
    if ((each->ifa_flags & IFF_UP) == 0 || (each->ifa_flags & IFF_LOOPBACK) != 0) continue;
    sockaddr_in address;
    std::memcpy(&address, each->ifa_addr, sizeof address);
    card.addresses[count++] = address.sin_addr.s_addr;
  }
  freeifaddrs(all);
}

}  // namespace

SocketListener::SocketListener() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
  check(socket_, "socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  check(bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind");
  check(listen(socket_, SOMAXCONN), "listen");
  socklen_t length = sizeof address;
  check(getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length), "getsockname");
  card_.port = address.sin_port;
  card_.host = host_identity();
  check(static_cast<int>(getrandom(&card_.secret, sizeof card_.secret, 0)), "getrandom");
  list_addresses(card_);
}

SocketListener::SocketListener(SocketListener&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)), card_(other.card_) {}

SocketListener::~SocketListener() {
  if (socket_ >= 0) (void)close(socket_);
}

}  // namespace gradwire
