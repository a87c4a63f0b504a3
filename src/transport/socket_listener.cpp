#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

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

/// Of an interface that leads to no other machine, most often: nothing is plugged in, or each machine has the same.
bool is_unlikely(const ifaddrs& interface, std::uint32_t address) {
  const bool link_local = (ntohl(address) & 0xffff0000U) == 0xa9fe0000U;  // 169.254.0.0/16
  return (interface.ifa_flags & IFF_RUNNING) == 0 || link_local ||
         std::string_view(interface.ifa_name).starts_with("docker");
}

/// Addresses that other machines may reach, of interfaces that are up; the unlikely ones last.
void list_addresses(SocketCard& card) {
  const char* const given = std::getenv("NCCL_SOCKET_IFNAME");
  const std::string_view selection = given == nullptr ? "" : given;
  ifaddrs* all = nullptr;
  check(getifaddrs(&all), "getifaddrs");
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(all, &freeifaddrs);
  std::vector<std::uint32_t> likely;
  std::vector<std::uint32_t> unlikely;
  for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET) continue;
    if ((each->ifa_flags & IFF_UP) == 0 || (each->ifa_flags & IFF_LOOPBACK) != 0) continue;
    if (!takes_interface(selection, each->ifa_name)) continue;
    sockaddr_in address;
    std::memcpy(&address, each->ifa_addr, sizeof address);
    (is_unlikely(*each, address.sin_addr.s_addr) ? unlikely : likely).push_back(address.sin_addr.s_addr);
  }
  likely.insert(likely.end(), unlikely.begin(), unlikely.end());
  std::copy_n(likely.begin(), std::min(likely.size(), card.addresses.size()), card.addresses.begin());
}

}  // namespace

bool takes_interface(std::string_view selection, std::string_view name) {
  if (selection.empty()) return true;
  const bool takes_others = selection.starts_with('^');
  if (takes_others) selection.remove_prefix(1);
  const bool whole = selection.starts_with('=');
  if (whole) selection.remove_prefix(1);
  bool is_listed = false;
  while (!selection.empty()) {
    const std::string_view item = selection.substr(0, selection.find(','));
    if (!item.empty()) is_listed = is_listed || (whole ? name == item : name.starts_with(item));
    selection.remove_prefix(std::min(selection.size(), item.size() + 1));
  }
  return is_listed != takes_others;
}

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
