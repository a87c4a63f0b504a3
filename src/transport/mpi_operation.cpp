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
/// How long a cancelled receive may take to let go. Cancelling is local; only a message already half received needs
/// its sender, which may be gone.
constexpr std::chrono::milliseconds kCancelPatience{100};
}  // namespace

void MpiOperation::begin(std::shared_ptr<MpiEndpoint> endpoint, Kind kind, Slot slot) {
  const std::lock_guard lock(mutex_);
  endpoint_ = std::move(endpoint);
  kind_ = kind;
  slot_ = slot;
  state_ = State::active;
  failure_.reset();
  requests_.clear();
  peers_.clear();
}

MPI_Request* MpiOperation::add(int rank, Role role) {
  peers_.push_back({rank, role});
  return &requests_.emplace_back(MPI_REQUEST_NULL);
}

/// The abort flag is read under the lock and after begin() made the operation known to the endpoint: either it is seen
/// here, or whoever raised it finds the requests posted here and cancels them.
template <class Post>
bool MpiOperation::post(Post&& post_requests) {
  const std::lock_guard lock(mutex_);
  if (state_ != State::active) return false;
  try {
    if (const auto aborted = endpoint_->abort_error()) throw Error(*aborted);
    post_requests();
  } catch (const Error& error) {
    fail_with(error);
    return false;
  }
  return true;
}

bool MpiOperation::post_exchange(std::span<const Send> sends, std::span<const Recv> recvs) {
  return post([&] {
    const auto tag = static_cast<int>(slot_);
    const MPI_Comm comm = endpoint_->comm();
    for (const Recv& recv : recvs) {
      const MpiMessage message(recv.bytes.size, endpoint_->max_count());
      mpi_check(MPI_Irecv(recv.bytes.data, message.count(), message.type(), recv.from, tag, comm,
                          add(recv.from, Role::receive)),
                "MPI_Irecv");
    }
    for (const Send& send : sends) {
      const MpiMessage message(send.bytes.size, endpoint_->max_count());
      mpi_check(
          MPI_Isend(send.bytes.data, message.count(), message.type(), send.to, tag, comm, add(send.to, Role::send)),
          "MPI_Isend");
    }
  });
}

bool MpiOperation::post_all_reduce(Tensor inout, MPI_Datatype type, MPI_Op op) {
  return post([&] {
    for (std::size_t first = 0; first < inout.count; first += endpoint_->max_count()) {
      const std::size_t count = std::min(inout.count - first, endpoint_->max_count());
      mpi_check(MPI_Iallreduce(MPI_IN_PLACE, inout.slice(first, count).data, static_cast<int>(count), type, op,
                               endpoint_->comm(), add(-1, Role::reduce)),
                "MPI_Iallreduce");
    }
  });
}

/// MPI_Testsome and not MPI_Testall: a receive that fails must be heard of although others are still waiting.
bool MpiOperation::test_requests() {
  const auto count = static_cast<int>(requests_.size());
  done_indices_.resize(requests_.size());
  statuses_.resize(requests_.size());
  int done = 0;
  const int code = MPI_Testsome(count, requests_.data(), &done, done_indices_.data(), statuses_.data());
  if (code == MPI_SUCCESS) {
    return done == MPI_UNDEFINED ||
           std::all_of(requests_.begin(), requests_.end(), [](MPI_Request r) { return r == MPI_REQUEST_NULL; });
  }
  if (code != MPI_ERR_IN_STATUS) mpi_check(code, "MPI_Testsome");
  for (std::size_t k = 0; k < static_cast<std::size_t>(std::max(done, 0)); ++k) {
    const int status = statuses_[k].MPI_ERROR;
    if (status != MPI_SUCCESS) throw request_error(static_cast<std::size_t>(done_indices_[k]), status);
  }
  return false;
}

Error MpiOperation::request_error(std::size_t index, int code) const {
  const Peer peer = peers_[index];
  const auto slot = static_cast<std::uint32_t>(slot_);
  int error_class = MPI_ERR_UNKNOWN;
  MPI_Error_class(code, &error_class);
  if (error_class == MPI_ERR_TRUNCATE && peer.role == Role::receive) {
    return {Errc::rank_mismatch,
            fmt::format("a message from rank {} in slot {} is longer than rank {} expects: the ranks differ in count "
                        "or compressor; GRADWIRE_CHECK=1 tells which",
                        peer.rank, slot, endpoint_->rank())};
  }
  const std::string text = mpi_error_text(code);
  if (peer.role == Role::reduce) return {Errc::transport, fmt::format("dense all-reduce in slot {}: {}", slot, text)};
  return {Errc::transport,
          fmt::format("{} rank {} in slot {}: {}", peer.role == Role::send ? "sending to" : "receiving from", peer.rank,
                      slot, text)};
}

bool MpiOperation::advance() noexcept {
  const std::lock_guard lock(mutex_);
  if (state_ != State::active) return true;
  try {
    if (!test_requests()) return false;
    state_ = State::ended;
    endpoint_.reset();
  } catch (const Error& error) {
    fail_with(error);
  }
  return true;
}

bool MpiOperation::poll() {
  std::shared_ptr<MpiEndpoint> endpoint;
  {
    const std::lock_guard lock(mutex_);
    endpoint = endpoint_;
  }
  if (endpoint != nullptr) {  // active until now
    if (advance()) {
      endpoint->forget(*this);
    } else {
      endpoint->look_for_abort();
    }
  }
  const std::lock_guard lock(mutex_);
  if (state_ == State::failed) throw Error(*failure_);
  return state_ == State::ended;
}

std::optional<Error> MpiOperation::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

bool MpiOperation::cancel(const Error& reason) noexcept {
  const std::lock_guard lock(mutex_);
  if (state_ != State::active) return true;
  state_ = State::failed;
  failure_ = reason;
  const bool clean = release_requests();
  endpoint_.reset();
  return clean;
}

void MpiOperation::fail_with(const Error& error) {
  state_ = State::failed;
  failure_ = error;
  release_requests();
  endpoint_->mark_broken();
  endpoint_.reset();
}

/// Receives are cancelled and seen to their end, so that their buffers may be freed. For the rest MPI has no remedy:
/// a send that its receiver never asks for is let go of, and MPI may still read its buffer; an all-reduce that some
/// rank never joins may still read and write its buffer. Owners of such buffers keep them (PersistentAllreduce leaks
/// its workspace) unless the process makes no further MPI call.
bool MpiOperation::release_requests() noexcept {
  if (!mpi_usable()) return false;
  const auto give_up = std::chrono::steady_clock::now() + kCancelPatience;
  const auto pending = [](const MPI_Request& request) { return request != MPI_REQUEST_NULL; };
  bool clean = true;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (pending(requests_[i]) && peers_[i].role == Role::receive) MPI_Cancel(&requests_[i]);
  }
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    int done = 0;
    while (pending(requests_[i])) {
      if (MPI_Test(&requests_[i], &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done != 0) break;
      if (peers_[i].role != Role::receive || std::chrono::steady_clock::now() >= give_up) break;
      std::this_thread::yield();
    }
    if (!pending(requests_[i])) continue;
    clean = false;
    if (peers_[i].role == Role::send) MPI_Request_free(&requests_[i]);
    if (peers_[i].role == Role::receive) {
      log::line(log::Level::warn, endpoint_->rank(),
                "a message from rank {} broke off half received; its buffer may still be written to", peers_[i].rank);
    }
  }
  requests_.clear();
  peers_.clear();
  return clean;
}

std::string MpiOperation::pending_peers(Role role) const {
  std::vector<int> ranks;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    const bool waiting = requests_[i] != MPI_REQUEST_NULL && peers_[i].role == role;
    if (waiting && std::find(ranks.begin(), ranks.end(), peers_[i].rank) == ranks.end())
      ranks.push_back(peers_[i].rank);
  }
  if (ranks.empty()) return {};
  return fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(ranks, " "));
}

std::string MpiOperation::describe() const {
  const std::lock_guard lock(mutex_);
  const auto slot = static_cast<std::uint32_t>(slot_);
  if (kind_ == Kind::all_reduce) {
    const auto open =
        std::count_if(requests_.begin(), requests_.end(), [](MPI_Request r) { return r != MPI_REQUEST_NULL; });
    if (state_ != State::active) return fmt::format("dense all-reduce in slot {}", slot);
    return fmt::format("dense all-reduce in slot {}: {} of {} pieces wait for other ranks", slot, open,
                       requests_.size());
  }
  const std::string from = pending_peers(Role::receive);
  const std::string to = pending_peers(Role::send);
  std::string text = fmt::format("exchange in slot {}", slot);
  if (!from.empty()) text += ": waiting to receive from " + from;
  if (!to.empty()) text += (from.empty() ? ": waiting to send to " : ", to send to ") + to;
  return text;
}

}  // namespace gradwire
