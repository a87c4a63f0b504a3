#include "transport/nccl_session.hpp"

#include <atomic>
#include <mutex>
#include <utility>
#include <vector>

#include "base/backoff.hpp"
#include "base/cuda.hpp"
#include "base/fail.hpp"
#include "base/log.hpp"
#include "transport/nccl_helpers.hpp"

namespace gradwire {
namespace {

Errc errc_of(ncclResult_t code) noexcept {
  switch (code) {
    case ncclUnhandledCudaError: return Errc::device;
    case ncclInvalidArgument:
    case ncclInvalidUsage: return Errc::invalid_argument;
    default: return Errc::transport;
  }
}

ncclConfig_t non_blocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

template <class Finished>
void await(std::string_view call, const NcclPatience& patience, Finished&& finished) {
  for (Backoff backoff; !finished(); backoff.pause()) {
    if (patience.listen) patience.listen();
    if (std::chrono::steady_clock::now() < patience.deadline) continue;
    fail(Errc::timeout, "{} waited until the deadline for the other ranks: every rank has to call it", call);
  }
}

/// A split of a communicator that may be blocking: then the call waits for the other ranks, for ever. It has a thread
/// of its own, which is given up with what it writes to; and NCCL writes `made` of a non-blocking one when that has
/// finished.
struct Split {
  ncclConfig_t config = non_blocking();
  ncclComm_t made = nullptr;
  ncclResult_t code = ncclSuccess;
  std::atomic<bool> has_returned{false};
};

void abandon(std::shared_ptr<Split> split) {
  static std::mutex mutex;
  static auto* const abandoned = new std::vector<std::shared_ptr<Split>>;  // outlives every static destructor
  const std::lock_guard lock(mutex);
  abandoned->push_back(std::move(split));
}

}  // namespace

Error nccl_error(ncclResult_t code, std::string_view call, ncclComm_t comm) {
  const char* const last = ncclGetLastError(comm);
  std::string text = fmt::format("{} failed: {}", call, ncclGetErrorString(code));
  if (last != nullptr && *last != '\0') text += fmt::format(" ({})", last);
  return {errc_of(code), text};
}

void nccl_check(ncclResult_t code, std::string_view call, ncclComm_t comm) {
  if (code != ncclSuccess && code != ncclInProgress) throw nccl_error(code, call, comm);
}

bool nccl_finished(ncclComm_t comm, std::string_view call) {
  ncclResult_t state = ncclSuccess;
  nccl_check(ncclCommGetAsyncError(comm, &state), "ncclCommGetAsyncError", comm);
  nccl_check(state, call, comm);
  return state == ncclSuccess;
}

std::string nccl_version() {
  int version = 0;
  nccl_check(ncclGetVersion(&version), "ncclGetVersion");
  return fmt::format("NCCL {}.{}.{}", version / 10'000, version / 100 % 100, version % 100);
}

NcclComm nccl_connect(const ncclUniqueId& id, int rank, int size, const NcclPatience& patience) {
  ncclConfig_t config = non_blocking();
  ncclComm_t made = nullptr;
  nccl_check(ncclCommInitRankConfig(&made, size, id, rank, &config), "ncclCommInitRankConfig");
  NcclComm comm(made);
  await("ncclCommInitRankConfig", patience, [&] { return nccl_finished(comm.get(), "ncclCommInitRankConfig"); });
  return comm;
}

NcclComm nccl_split(ncclComm_t parent, int color, const NcclPatience& patience) {
  constexpr std::string_view kCall = "ncclCommSplit";
  int rank = 0;
  int device = 0;
  nccl_check(ncclCommUserRank(parent, &rank), "ncclCommUserRank", parent);
  cuda::check(cudaGetDevice(&device), "cudaGetDevice");
  const auto split = std::make_shared<Split>();
  nccl_helpers::start([split, parent, color, rank, device] {
    (void)cudaSetDevice(device);
    split->code = ncclCommSplit(parent, color, rank, &split->made, &split->config);
    split->has_returned.store(true, std::memory_order_release);
  });
  try {
    await(kCall, patience, [&] { return split->has_returned.load(std::memory_order_acquire); });
    nccl_check(split->code, kCall, parent);
    await(kCall, patience, [&] { return nccl_finished(parent, kCall); });
  } catch (const std::exception&) {
    abandon(split);
    throw;
  }
  if (split->made == nullptr) fail(Errc::internal, "{} made no communicator for color {}", kCall, color);
  NcclComm comm(split->made);
  await(kCall, patience, [&] { return nccl_finished(comm.get(), kCall); });
  return comm;
}

void nccl_abort(ncclComm_t comm) noexcept {
  const ncclResult_t code = ncclCommAbort(comm);
  if (code == ncclSuccess || code == ncclInProgress) return;
  log::line(log::Level::warn, -1, "ncclCommAbort: {}", ncclGetErrorString(code));
}

void nccl_retire(NcclComm comm, const NcclPatience& patience) noexcept {
  try {
    nccl_check(ncclCommFinalize(comm.get()), "ncclCommFinalize", comm.get());
    await("ncclCommFinalize", patience, [&] { return nccl_finished(comm.get(), "ncclCommFinalize"); });
  } catch (const std::exception& error) {
    log::line(log::Level::debug, -1, "{}; the communicator is aborted", error.what());
    return;
  }
  const ncclResult_t code = ncclCommDestroy(comm.release());
  if (code == ncclSuccess || code == ncclInProgress) return;
  log::line(log::Level::warn, -1, "ncclCommDestroy: {}", ncclGetErrorString(code));
}

}  // namespace gradwire
