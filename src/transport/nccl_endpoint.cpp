#include "transport/nccl_endpoint.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/device.hpp"
#include "base/fail.hpp"
#include "transport/nccl_helpers.hpp"
#include "transport/nccl_session.hpp"

namespace gradwire {
namespace {
/// The helper's pause while something is in flight: it grows from the first to the second. Callers that poll are
/// faster.
constexpr std::chrono::microseconds kShortPause{50};
constexpr std::chrono::microseconds kLongPause{2000};
/// Operations on the device beyond which the next ones stay with the host: a stream that is full blocks who launches.
constexpr std::size_t kMostRunning = 128;
/// How long a communicator waits for the other ranks to destroy theirs before it is aborted: nothing runs on it.
constexpr std::chrono::seconds kRetirePatience{5};
}  // namespace

NcclEndpoint::NcclEndpoint(Communicator host, NcclEndpointOptions options)
    : host_(std::move(host)), helper_may_use_host_(host_.transport().info().any_thread), options_(std::move(options)) {
  whole_ = std::none_of(options_.nccl_ranks.begin(), options_.nccl_ranks.end(), [](int rank) { return rank < 0; });
}

void NcclEndpoint::start() {
  nccl_helpers::start([self = shared_from_this()] { self->help(); });
}

/// Freeing memory waits for the device, where kernels may wait for other ranks: what has become too small stays until
/// the communicator is gone. Each piece has twice the size of the one before it at least.
std::byte* NcclEndpoint::scratch(std::size_t bytes) {
  const std::size_t largest = scratch_.empty() ? 0 : scratch_.back().size();
  if (bytes > largest) scratch_.emplace_back(std::max(bytes, 2 * largest), Space::device);
  return scratch_.back().data();
}

void NcclEndpoint::post(const std::shared_ptr<NcclOperation>& operation) noexcept {
  try {
    if (failure_) return operation->fail_with(*failure_);
    queue_.push_back(operation);
  } catch (const std::exception& error) {
    return operation->fail_with(Error(Errc::transport, error.what()));
  }
  const bool idle = queue_.size() + running_.size() == 1;
  pump(false);
  if (idle) wake_.notify_one();
}

void NcclEndpoint::serve(NcclOperation& operation) noexcept {
  pump(false);
  if (failure_ || !operation.active()) return;
  try {
    if (!operation.advance()) return;
    const auto is_it = [&](const auto& other) { return other.get() == &operation; };
    std::erase_if(running_, is_it);
    std::erase_if(queue_, is_it);
  } catch (const Error& error) {
    fail_all(error);
  } catch (const std::exception&) {
    fail_all(nameless_failure_);
  }
}

/// Moves the queue and what is staged. `all`: every operation, so that those whose Work was dropped end too.
void NcclEndpoint::pump(bool all) noexcept {
  if (failure_) return;
  try {
    listen();
    launch_queue();
    if (all) sweep();
  } catch (const Error& error) {
    fail_all(error);
  } catch (const std::exception& error) {
    fail_all(Error(Errc::transport, error.what()));
  }
}

/// Throws Errc::aborted once some rank has aborted: an exchange with nobody tells.
void NcclEndpoint::listen() {
  Transport& host = host_.transport();
  host.progress();
  (void)host.exchange({}, {}, kOrderSlot, StreamRef::host()).done();
}

void NcclEndpoint::launch_queue() {
  while (!queue_.empty()) {
    if (running_.size() >= kMostRunning) sweep();
    if (running_.size() >= kMostRunning) break;
    NcclOperation& front = *queue_.front();
    launching_ = launching_ ? !nccl_finished(comm(), "launching an operation") : !front.launch();
    if (launching_) return;
    front.launched();
    running_.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  for (const auto& operation : running_) {
    if (!operation->post_staged()) break;  // the host channel takes them in the order of the calls
  }
}

void NcclEndpoint::sweep() {
  if (comm() != nullptr && !launching_) (void)nccl_finished(comm(), "an operation in flight");
  std::erase_if(running_, [](const auto& operation) { return operation->advance(); });
}

void NcclEndpoint::progress() noexcept {
  const std::lock_guard lock(mutex_);
  pump(true);
}

void NcclEndpoint::fail_all(const Error& error) noexcept {
  if (!failure_ || error.code() == Errc::aborted) failure_ = error;
  for (const auto& operation : queue_) operation->fail_with(error);
  for (const auto& operation : running_) operation->fail_with(error);
  queue_.clear();
  running_.clear();
  if (error.code() == Errc::rank_mismatch) host_.transport().abort(error.what());  // the others may wait on a device
  wake_.notify_one();
}

void NcclEndpoint::abort(std::string_view why) noexcept {
  host_.transport().abort(why);
  const std::lock_guard lock(mutex_);
  if (failure_ && failure_->code() == Errc::aborted) return;
  try {
    listen();  // throws the words that every rank hears
    fail_all(Error(Errc::aborted, fmt::format("rank {} aborted: {}", host_.rank(), why)));
  } catch (const Error& error) {
    fail_all(error);
  } catch (const std::exception&) {
    fail_all(nameless_failure_);
  }
}

void NcclEndpoint::close() noexcept {
  const std::lock_guard lock(mutex_);
  pump(true);
  if (in_flight()) {  // whose kernels the other ranks' kernels may wait for
    host_.transport().abort("its communicator was destroyed with device operations in flight");
    fail_all(Error(Errc::aborted, "the communicator was destroyed before the operation was complete"));
  }
  closing_ = true;
  options_.claim.reset();  // from now on the helper only asks whether some rank has aborted
  wake_.notify_one();
}

/// The helper thread. It ends once the communicator is gone.
void NcclEndpoint::help() {
  (void)cudaSetDevice(options_.device);
  std::unique_lock lock(mutex_);
  auto pause = kShortPause;
  while (!closing_ && !failure_) {
    if (!in_flight()) {
      wake_.wait(lock);
      pause = kShortPause;
      continue;
    }
    if (helper_may_use_host_) pump(true);
    wake_.wait_for(lock, pause);
    pause = std::min(pause * 2, kLongPause);
  }
  take_down(lock);
}

void NcclEndpoint::take_down(std::unique_lock<std::mutex>& lock) noexcept {
  const std::vector<Buffer> scratch = std::move(scratch_);  // freed after the communicator
  NcclComm comm = std::move(options_.comm);
  const bool clean = !failure_;
  lock.unlock();
  if (comm == nullptr || !clean) return;
  NcclPatience patience{std::chrono::steady_clock::now() + kRetirePatience, nullptr};
  if (helper_may_use_host_) patience.listen = [this] { listen(); };
  nccl_retire(std::move(comm), patience);
}

}  // namespace gradwire
