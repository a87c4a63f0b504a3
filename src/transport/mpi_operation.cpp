#include "transport/mpi_operation.hpp"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "base/fail.hpp"
#include "base/log.hpp"
#include "transport/mpi_endpoint.hpp"
#include "transport/mpi_session.hpp"

namespace gradwire {
namespace {
/// How long a receive that has begun may take to end when its operation is given up: the sender may be gone.
constexpr std::chrono::milliseconds kReleasePatience{100};
}  // namespace

void MpiOperation::begin(std::shared_ptr<MpiEndpoint> endpoint, Kind kind, Slot slot) {
  endpoint_ = std::move(endpoint);
  kind_ = kind;
  slot_ = slot;
  state_ = State::active;
  failure_.reset();
  parts_.clear();
  requests_.clear();
  open_parts_ = 0;
}

MPI_Request* MpiOperation::add(const Part& part) {
  parts_.push_back(part);
  ++open_parts_;
  return &requests_.emplace_back(MPI_REQUEST_NULL);
}

template <class Post>
void MpiOperation::post(Post&& post_parts) noexcept {
  try {
    if (const auto& aborted = endpoint_->abort_error()) throw Error(*aborted);
    post_parts();
  } catch (const Error& error) {
    fail_with(error);
  } catch (const std::exception& error) {
    fail_with(Error(Errc::transport, error.what()));
  }
}

void MpiOperation::post_exchange(std::span<const Send> sends, std::span<const Recv> recvs) {
  post([&] {
    for (const Recv& recv : recvs) {
      add({Role::receive, recv.from, recv.bytes});
      endpoint_->inbox().wait_for(*this, parts_.size() - 1, recv.from, slot_);
    }
    for (const Send& send : sends) {
      const MpiMessage message(send.bytes.size, endpoint_->max_count());
      MPI_Request* const request = add({Role::send, send.to, {}});
      mpi_check(MPI_Isend(send.bytes.data, message.count(), message.type(), send.to, static_cast<int>(slot_),
                          endpoint_->comm(), request),
                "MPI_Isend");
    }
  });
}

void MpiOperation::post_all_reduce(Tensor inout, MPI_Datatype type, MPI_Op op) {
  post([&] {
    for (std::size_t first = 0; first < inout.count; first += endpoint_->max_count()) {
      const std::size_t count = std::min(inout.count - first, endpoint_->max_count());
      MPI_Request* const request = add({Role::reduce, -1, {}});
      mpi_check(MPI_Iallreduce(MPI_IN_PLACE, inout.slice(first, count).data, static_cast<int>(count), type, op,
                               endpoint_->comm(), request),
                "MPI_Iallreduce");
    }
  });
}

void MpiOperation::receive(std::size_t part, std::size_t size) {
  const Part receiver = parts_[part];
  const auto slot = static_cast<std::uint32_t>(slot_);
  if (size > receiver.into.size) {
    fail_with(Error(Errc::rank_mismatch,
                    fmt::format("a message of {} bytes from rank {} in slot {} is longer than the {} bytes that rank "
                                "{} expects: the ranks differ in count or compressor; GRADWIRE_CHECK=1 tells which",
                                size, receiver.peer, slot, receiver.into.size, endpoint_->rank())));
    endpoint_->inbox().discard(receiver.peer, slot_, size);
    return;
  }
  const MpiMessage message(size, endpoint_->max_count());
  const int code = MPI_Irecv(receiver.into.data, message.count(), message.type(), receiver.peer,
                             static_cast<int>(slot_), endpoint_->comm(), &requests_[part]);
  if (code != MPI_SUCCESS) fail_with(part_error(part, code));
}

/// MPI_Testsome and not MPI_Testall: what fails must be heard of although others are still waiting.
void MpiOperation::test_requests() {
  const auto count = static_cast<int>(requests_.size());
  done_indices_.resize(requests_.size());
  statuses_.resize(requests_.size());
  int done = 0;
  const int code = MPI_Testsome(count, requests_.data(), &done, done_indices_.data(), statuses_.data());
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) mpi_check(code, "MPI_Testsome");
  if (done == MPI_UNDEFINED) return;  // no request active: the receives wait for their messages
  for (std::size_t k = 0; k < static_cast<std::size_t>(done); ++k) {
    const auto part = static_cast<std::size_t>(done_indices_[k]);
    if (code == MPI_ERR_IN_STATUS && statuses_[k].MPI_ERROR != MPI_SUCCESS) {
      throw part_error(part, statuses_[k].MPI_ERROR);
    }
    parts_[part].open = false;
    --open_parts_;
  }
}

Error MpiOperation::part_error(std::size_t part, int code) const {
  const auto slot = static_cast<std::uint32_t>(slot_);
  const std::string text = mpi_error_text(code);
  switch (parts_[part].role) {
    case Role::reduce: return {Errc::transport, fmt::format("dense all-reduce in slot {}: {}", slot, text)};
    case Role::send:
      return {Errc::transport, fmt::format("sending to rank {} in slot {}: {}", parts_[part].peer, slot, text)};
    case Role::receive: break;
  }
  return {Errc::transport, fmt::format("receiving from rank {} in slot {}: {}", parts_[part].peer, slot, text)};
}

bool MpiOperation::advance() noexcept {
  if (!active()) return true;
  try {
    if (open_parts_ > 0) test_requests();
    if (open_parts_ == 0) state_ = State::ended;
  } catch (const Error& error) {
    fail_with(error);
  }
  return !active();
}

/// Another thread that is inside MPI for this communicator moves this operation too: no need to queue behind it.
bool MpiOperation::poll() {
  const std::unique_lock lock(endpoint_->mutex(), std::try_to_lock);
  if (!lock.owns_lock()) return false;
  if (active()) {
    endpoint_->pump();
    advance();
  }
  if (!active()) endpoint_->forget(*this);
  if (state_ == State::failed) throw Error(*failure_);
  return state_ == State::ended;
}

bool MpiOperation::cancel(const Error& reason) noexcept {
  if (!active()) return true;
  return fail_with(reason);
}

bool MpiOperation::fail_with(const Error& error) noexcept {
  state_ = State::failed;
  failure_ = error;
  endpoint_->mark_broken();
  endpoint_->inbox().withdraw(*this);
  return release_requests();
}

/// A receive whose message has not come is not known to MPI, so its buffer is free at once; one under way is seen to
/// its end. For the rest MPI has no remedy: a send that its receiver never asks for is let go of, and MPI may still
/// read its buffer; an all-reduce that some rank never joins may still read and write its buffer. Owners of such
/// buffers keep them (PersistentAllreduce abandons its workspace) unless the process makes no further MPI call.
bool MpiOperation::release_requests() noexcept {
  if (!mpi_usable()) return false;
  const auto give_up = std::chrono::steady_clock::now() + kReleasePatience;
  bool clean = true;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    const bool receiving = parts_[i].role == Role::receive;
    for (int done = 0; requests_[i] != MPI_REQUEST_NULL && done == 0;) {
      if (MPI_Test(&requests_[i], &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) break;
      if (!receiving || std::chrono::steady_clock::now() >= give_up) break;
      if (done == 0) std::this_thread::yield();
    }
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    clean = false;
    if (parts_[i].role == Role::send) MPI_Request_free(&requests_[i]);
    if (receiving) {
      log::line(log::Level::warn, endpoint_->rank(),
                "a message from rank {} broke off half received; its buffer may still be written to", parts_[i].peer);
    }
  }
  requests_.clear();
  parts_.clear();
  return clean;
}

std::string MpiOperation::open_peers(Role role) const {
  std::vector<int> ranks;
  for (const Part& part : parts_) {
    const bool wanted = part.open && part.role == role;
    if (wanted && std::find(ranks.begin(), ranks.end(), part.peer) == ranks.end()) ranks.push_back(part.peer);
  }
  if (ranks.empty()) return {};
  return fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(ranks, " "));
}

std::string MpiOperation::describe() const {
  const std::lock_guard lock(endpoint_->mutex());
  const auto slot = static_cast<std::uint32_t>(slot_);
  if (kind_ == Kind::all_reduce) {
    if (!active()) return fmt::format("dense all-reduce in slot {}", slot);
    return fmt::format("dense all-reduce in slot {}: {} of {} pieces wait for other ranks", slot, open_parts_,
                       parts_.size());
  }
  const std::string from = open_peers(Role::receive);
  const std::string to = open_peers(Role::send);
  std::string text = fmt::format("exchange in slot {}", slot);
  if (!from.empty()) text += ": waiting to receive from " + from;
  if (!to.empty()) text += (from.empty() ? ": waiting to send to " : ", to send to ") + to;
  return text;
}

}  // namespace gradwire
