#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "gradwire/transport.hpp"

namespace gradwire {

/// Where a rank listens: what the others have to know to connect to it. Bytes of it are added up, so it has no padding.
struct SocketCard {
  static constexpr std::size_t kMaxAddresses = 14;
  std::array<std::uint32_t, kMaxAddresses> addresses{};  ///< IPv4, in network order, likely ones first; 0 ends the list
  std::uint32_t port = 0;
  std::uint32_t secret = 0;  ///< a connection that does not know it is no rank's
  std::uint64_t host = 0;    ///< the same for ranks of one machine
};
static_assert(std::has_unique_object_representations_v<SocketCard>);

/// Whether `selection`, of the form of NCCL_SOCKET_IFNAME, takes an interface: a list of prefixes of names, "eth,ib";
/// '^' before it takes all others, '=' (after a '^') makes them whole names. An empty one takes all.
[[nodiscard]] bool takes_interface(std::string_view selection, std::string_view name);

/// An open port on all interfaces. Its card has the addresses of those that NCCL_SOCKET_IFNAME takes.
class SocketListener {
 public:
  SocketListener();
  SocketListener(SocketListener&& other) noexcept;
  SocketListener& operator=(SocketListener&&) = delete;
  ~SocketListener();

  [[nodiscard]] const SocketCard& card() const noexcept { return card_; }
  [[nodiscard]] int socket() const noexcept { return socket_; }

 private:
  int socket_ = -1;
  SocketCard card_;
};

/// Collective over the ranks whose cards these are: a TCP connection between any two of them. Made for the small host
/// messages of a transport that moves its bulk by other means: sends are copied, and a sum is an exchange of everything
/// with everybody. A rank whose connection breaks without a farewell fails every Work of the others.
[[nodiscard]] Communicator make_socket_mesh(SocketListener listener, int rank, std::span<const SocketCard> cards,
                                            Deadline deadline);

}  // namespace gradwire
