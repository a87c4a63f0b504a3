#include "transport/socket_endpoint.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/fail.hpp"

namespace gradwire {
namespace {
/// How long abort() pushes its messages into connections that are full.
constexpr std::chrono::milliseconds kAbortPush{10};
}  // namespace

void SocketEndpoint::send(int to, Slot slot, ConstBytes bytes) {
  if (!peer(to).open()) fail(Errc::transport, "rank {} has left: its connection is closed", to);
  peer(to).send({SocketHeader::message, static_cast<std::uint32_t>(slot), 0}, bytes);
}

void SocketEndpoint::receive(const std::shared_ptr<SocketOperation>& operation, std::size_t part, int from, Slot slot) {
  Mailbox& box = mailbox(from, slot);
  if (box.arrived.empty()) {
    if (!peer(from).open()) fail(Errc::transport, "rank {} has left: its connection is closed", from);
    box.pending.push_back({operation, part});
    return;
  }
  const std::vector<std::byte> message = std::move(box.arrived.front());
  box.arrived.pop_front();
  operation->deliver(part, message);
}

void SocketEndpoint::withdraw(const SocketOperation& operation) noexcept {
  for (auto& [key, box] : mailboxes_) {
    std::erase_if(box.pending, [&](const Pending& pending) { return pending.operation.get() == &operation; });
  }
}

void SocketEndpoint::take(int from, SocketPeer::Message message) {
  switch (message.header.kind) {
    case SocketHeader::message: break;
    case SocketHeader::farewell: peer(from).close(); return;
    case SocketHeader::abort: {
      const std::string_view why(reinterpret_cast<const char*>(message.body.data()), message.body.size());
      return fail_all(Error(Errc::aborted, fmt::format("rank {} aborted: {}", from, why)));
    }
    default: fail(Errc::transport, "a message of kind {} is none", message.header.kind);
  }
  Mailbox& box = mailbox(from, Slot{message.header.slot});
  if (box.pending.empty()) {
    box.arrived.push_back(std::move(message.body));
    return;
  }
  const Pending pending = std::move(box.pending.front());
  box.pending.pop_front();
  pending.operation->deliver(pending.part, message.body);
}

/// Receives that a rank's farewell has left behind wait for ever: they fail.
void SocketEndpoint::read_from(int rank) {
  if (!peer(rank).open()) return;
  while (auto message = peer(rank).receive()) take(rank, std::move(*message));
  if (peer(rank).open()) return;
  const Error left(Errc::transport, fmt::format("rank {} has left: it destroyed its communicator", rank));
  for (auto& [key, box] : mailboxes_) {
    if (key.first != rank) continue;
    while (!box.pending.empty()) {
      const std::shared_ptr<SocketOperation> operation = box.pending.front().operation;
      box.pending.pop_front();
      operation->fail_with(left);
    }
  }
}

void SocketEndpoint::pump() noexcept {
  for (int rank = 0; rank < size(); ++rank) {
    if (failure_) return;
    try {
      (void)peer(rank).flush();
      read_from(rank);
    } catch (const Error& error) {
      try {
        fail_all(Error(error.code(), fmt::format("rank {} is gone: {}", rank, error.what())));
      } catch (const std::exception&) {
        fail_all(nameless_failure_);
      }
    } catch (const std::exception&) {
      fail_all(nameless_failure_);
    }
  }
}

void SocketEndpoint::progress() noexcept {
  const std::lock_guard lock(mutex_);
  pump();
}

void SocketEndpoint::fail_all(const Error& error) noexcept {
  if (!failure_) failure_ = error;
  for (auto& [key, box] : mailboxes_) {
    for (const Pending& pending : box.pending) pending.operation->fail_with(error);
    box.pending.clear();
  }
}

void SocketEndpoint::abort(std::string_view why) noexcept {
  const std::lock_guard lock(mutex_);
  if (failure_ && failure_->code() == Errc::aborted) return;
  try {
    const ConstBytes text{reinterpret_cast<const std::byte*>(why.data()), why.size()};
    for (SocketPeer& each : peers_) {
      if (each.open()) each.send({SocketHeader::abort, 0, 0}, text);
    }
    const auto give_up = std::chrono::steady_clock::now() + kAbortPush;
    const auto full = [](SocketPeer& each) { return each.flush(); };
    while (std::any_of(peers_.begin(), peers_.end(), full) && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::yield();
    }
    failure_.reset();
    fail_all(Error(Errc::aborted, fmt::format("rank {} aborted: {}", rank_, why)));
  } catch (const std::exception&) {
    fail_all(nameless_failure_);
  }
}

void SocketEndpoint::close() noexcept {
  const std::lock_guard lock(mutex_);
  pump();
  for (SocketPeer& each : peers_) {
    if (!each.open()) continue;
    try {
      each.send({SocketHeader::farewell, 0, 0}, {});
    } catch (const std::exception&) {  // out of memory: the others see a connection that breaks
    }
    each.close();
  }
  try {
    fail_all(Error(Errc::aborted, "the communicator was destroyed before the operation was complete"));
  } catch (const std::exception&) {
    fail_all(nameless_failure_);
  }
}

}  // namespace gradwire
