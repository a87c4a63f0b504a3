#include "transport/mpi_endpoint.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/fail.hpp"
#include "base/log.hpp"
#include "transport/mpi_session.hpp"

namespace gradwire {
namespace {
/// Operations in flight beyond which start() looks for some whose Work was dropped.
constexpr std::size_t kReapAbove = 64;
/// How long abort() pushes its messages along: without it, a rank that makes no MPI call after abort() might never
/// have opened the connections they travel on.
constexpr std::chrono::milliseconds kAbortPush{10};
constexpr int kAbortTag = static_cast<int>(kAbortSlot);
}  // namespace

MpiEndpoint::MpiEndpoint(MPI_Comm comm, std::size_t max_count) : comm_(comm), max_count_(max_count) {
  mpi_check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
  mpi_check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  if (size_ == 1) return;
  mpi_check(MPI_Irecv(messages_->in.data(), kAbortTextBytes, MPI_CHAR, MPI_ANY_SOURCE, kAbortTag, comm_, &abort_recv_),
            "MPI_Irecv");
}

MpiEndpoint::~MpiEndpoint() { close(); }

std::shared_ptr<MpiOperation> MpiEndpoint::start(MpiOperation::Kind kind, Slot slot) {
  std::shared_ptr<MpiOperation> operation = pool_.acquire();
  operation->begin(shared_from_this(), kind, slot);
  const std::lock_guard lock(in_flight_mutex_);
  if (in_flight_.size() >= kReapAbove) reap_dropped();
  in_flight_.push_back(operation);
  return operation;
}

void MpiEndpoint::forget(const MpiOperation& operation) noexcept {
  const std::lock_guard lock(in_flight_mutex_);
  const auto found =
      std::find_if(in_flight_.begin(), in_flight_.end(), [&](const auto& o) { return o.get() == &operation; });
  if (found == in_flight_.end()) return;
  std::swap(*found, in_flight_.back());
  in_flight_.pop_back();
}

/// Two owners, this list and the pool: nobody is left to poll it.
void MpiEndpoint::reap_dropped() noexcept {
  std::erase_if(in_flight_, [this](const std::shared_ptr<MpiOperation>& operation) {
    if (operation.use_count() > 2 || !operation->advance()) return false;
    if (const auto failure = operation->failure()) {
      log::line(log::Level::warn, rank_, "an operation that nobody waits for failed: {}", failure->what());
    }
    return true;
  });
}

std::optional<Error> MpiEndpoint::abort_error() const {
  if (!aborted_.load(std::memory_order_acquire)) return std::nullopt;
  const std::lock_guard lock(reason_mutex_);
  return reason_;
}

void MpiEndpoint::look_for_abort() noexcept {
  if (polls_.fetch_add(1, std::memory_order_relaxed) % kAbortInterval == 0) receive_abort();
}

void MpiEndpoint::progress() noexcept {
  receive_abort();
  const std::lock_guard lock(in_flight_mutex_);
  reap_dropped();
}

void MpiEndpoint::receive_abort() noexcept {
  int arrived = 0;
  int length = 0;
  int source = 0;
  {
    const std::unique_lock lock(channel_mutex_, std::try_to_lock);
    if (!lock.owns_lock() || abort_recv_ == MPI_REQUEST_NULL) return;
    MPI_Status status;
    if (MPI_Test(&abort_recv_, &arrived, &status) != MPI_SUCCESS || arrived == 0) return;
    MPI_Get_count(&status, MPI_CHAR, &length);
    source = status.MPI_SOURCE;
  }
  const auto shown = static_cast<std::size_t>(std::clamp(length, 0, static_cast<int>(kAbortTextBytes)));
  if (raise(source, {messages_->in.data(), shown})) cancel_all(*reason_);
}

/// True for the first caller only.
bool MpiEndpoint::raise(int rank, std::string_view why) noexcept {
  const std::lock_guard lock(reason_mutex_);
  if (reason_) return false;
  try {
    reason_.emplace(Errc::aborted, fmt::format("rank {} aborted: {}", rank, why));
  } catch (const std::exception&) {
    return false;  // out of memory
  }
  broken_ = true;
  aborted_.store(true, std::memory_order_release);
  return true;
}

void MpiEndpoint::abort(std::string_view why) noexcept {
  if (!raise(rank_, why)) return;
  try {
    if (mpi_usable()) send_abort(why);
  } catch (const std::exception& error) {
    log::line(log::Level::warn, rank_, "the abort may not reach every rank: {}", error.what());
  }
  cancel_all(*reason_);
}

void MpiEndpoint::send_abort(std::string_view why) {
  const std::lock_guard lock(channel_mutex_);
  const std::size_t length = std::min(why.size(), kAbortTextBytes);
  std::memcpy(messages_->out.data(), why.data(), length);
  abort_sends_.reserve(static_cast<std::size_t>(size_));
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    MPI_Request* const request = &abort_sends_.emplace_back(MPI_REQUEST_NULL);
    MPI_Isend(messages_->out.data(), static_cast<int>(length), MPI_CHAR, peer, kAbortTag, comm_, request);
  }
  const auto give_up = std::chrono::steady_clock::now() + kAbortPush;
  for (int sent = 0; sent == 0 && std::chrono::steady_clock::now() < give_up;) {
    const auto count = static_cast<int>(abort_sends_.size());
    if (MPI_Testall(count, abort_sends_.data(), &sent, MPI_STATUSES_IGNORE) != MPI_SUCCESS) return;
    std::this_thread::yield();
  }
}

void MpiEndpoint::cancel_all(const Error& reason) noexcept {
  const std::lock_guard lock(in_flight_mutex_);
  for (const auto& operation : in_flight_) operation->cancel(reason);
  in_flight_.clear();
}

/// True when MPI holds none of this endpoint's memory any more.
bool MpiEndpoint::close_abort_channel() noexcept {
  const std::lock_guard lock(channel_mutex_);
  if (abort_recv_ != MPI_REQUEST_NULL) {
    MPI_Cancel(&abort_recv_);
    MPI_Wait(&abort_recv_, MPI_STATUS_IGNORE);  // local after a cancel: the text is short enough to have come whole
  }
  int sent = 1;
  const auto count = static_cast<int>(abort_sends_.size());
  if (count > 0) MPI_Testall(count, abort_sends_.data(), &sent, MPI_STATUSES_IGNORE);
  return sent != 0;
}

void MpiEndpoint::close() noexcept {
  if (comm_ == MPI_COMM_NULL) return;
  {
    const std::lock_guard lock(in_flight_mutex_);
    reap_dropped();
    if (!in_flight_.empty()) broken_ = true;
  }
  cancel_all(Error(Errc::aborted, "the communicator was destroyed before the operation was complete"));
  if (!mpi_usable() || !close_abort_channel()) {
    broken_ = true;
    (void)messages_.release();
  }
  mpi_retire(comm_, !broken_);
  comm_ = MPI_COMM_NULL;
}

}  // namespace gradwire
