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
/// Operations in flight beyond which track() looks for some whose Work was dropped.
constexpr std::size_t kReapAbove = 64;
/// How long abort() pushes its messages along: without it, a rank that makes no MPI call after abort() might never
/// have opened the connections they travel on.
constexpr std::chrono::milliseconds kAbortPush{10};
}  // namespace

MpiEndpoint::MpiEndpoint(MPI_Comm comm, std::size_t max_count) : comm_(comm), max_count_(max_count), inbox_(comm) {
  mpi_check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
  mpi_check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
}

void MpiEndpoint::track(std::shared_ptr<MpiOperation> operation) {
  if (in_flight_.size() >= kReapAbove) reap_dropped();
  in_flight_.push_back(std::move(operation));
}

void MpiEndpoint::forget(const MpiOperation& operation) noexcept {
  const auto found =
      std::find_if(in_flight_.begin(), in_flight_.end(), [&](const auto& o) { return o.get() == &operation; });
  if (found == in_flight_.end()) return;
  std::swap(*found, in_flight_.back());
  in_flight_.pop_back();
}

/// Two owners, this list and the transport's pool: nobody is left to poll it.
void MpiEndpoint::reap_dropped() noexcept {
  std::erase_if(in_flight_, [this](const std::shared_ptr<MpiOperation>& operation) {
    if (operation.use_count() > 2 || !operation->advance()) return false;
    if (const auto& failure = operation->failure()) {
      log::line(log::Level::warn, rank_, "an operation that nobody waits for failed: {}", failure->what());
    }
    return true;
  });
}

void MpiEndpoint::pump() noexcept {
  if (size_ == 1 || abort_error_) return;
  try {
    if (const auto abort = inbox_.pump(); abort && raise(abort->rank, abort->why)) cancel_all(*abort_error_);
  } catch (const std::exception& error) {
    cancel_all(Error(Errc::transport, error.what()));
  }
}

void MpiEndpoint::progress() noexcept {
  const std::lock_guard lock(mutex_);
  pump();
  reap_dropped();
}

/// True for the first caller only.
bool MpiEndpoint::raise(int rank, std::string_view why) noexcept {
  if (abort_error_) return false;
  broken_ = true;
  try {
    abort_error_.emplace(Errc::aborted, fmt::format("rank {} aborted: {}", rank, why));
  } catch (const std::exception&) {
    abort_error_ = nameless_abort_;  // out of memory
  }
  return true;
}

void MpiEndpoint::abort(std::string_view why) noexcept {
  const std::lock_guard lock(mutex_);
  if (!raise(rank_, why)) return;
  try {
    if (comm_ != MPI_COMM_NULL && mpi_usable()) send_abort(why);
  } catch (const std::exception& error) {
    log::line(log::Level::warn, rank_, "the abort may not reach every rank: {}", error.what());
  }
  cancel_all(*abort_error_);
}

void MpiEndpoint::send_abort(std::string_view why) {
  abort_text_ = std::make_unique<std::array<char, kAbortTextBytes>>();
  const std::size_t length = std::min(why.size(), kAbortTextBytes);
  std::memcpy(abort_text_->data(), why.data(), length);
  abort_sends_.assign(static_cast<std::size_t>(size_), MPI_REQUEST_NULL);
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    MPI_Request* const request = &abort_sends_[static_cast<std::size_t>(peer)];
    mpi_check(MPI_Isend(abort_text_->data(), static_cast<int>(length), MPI_CHAR, peer, static_cast<int>(kAbortSlot),
                        comm_, request),
              "MPI_Isend");
  }
  const auto give_up = std::chrono::steady_clock::now() + kAbortPush;
  for (int sent = 0; sent == 0 && std::chrono::steady_clock::now() < give_up;) {
    mpi_check(MPI_Testall(size_, abort_sends_.data(), &sent, MPI_STATUSES_IGNORE), "MPI_Testall");
    std::this_thread::yield();
  }
}

void MpiEndpoint::cancel_all(const Error& reason) noexcept {
  for (const auto& operation : in_flight_) operation->cancel(reason);
  in_flight_.clear();
}

void MpiEndpoint::close() noexcept {
  const std::lock_guard lock(mutex_);
  if (comm_ == MPI_COMM_NULL) return;
  if (mpi_usable()) {
    reap_dropped();
    cancel_all(Error(Errc::aborted, "the communicator was destroyed before the operation was complete"));
    int sent = 1;
    const auto sends = static_cast<int>(abort_sends_.size());
    if (sends > 0) MPI_Testall(sends, abort_sends_.data(), &sent, MPI_STATUSES_IGNORE);
    if (sent == 0) (void)abort_text_.release();  // MPI still holds it
    if (!inbox_.close() || sent == 0) broken_ = true;
  } else {
    in_flight_.clear();
    (void)abort_text_.release();
  }
  mpi_retire(comm_, !broken_);
  comm_ = MPI_COMM_NULL;
}

}  // namespace gradwire
