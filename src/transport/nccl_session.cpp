#include "transport/nccl_session.hpp"

#include "base/backoff.hpp"
#include "base/env.hpp"
#include "base/fail.hpp"
#include "base/log.hpp"

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

void await(ncclComm_t comm, std::string_view call, const NcclPatience& patience) {
  for (Backoff backoff; !nccl_finished(comm, call); backoff.pause()) {
    if (patience.listen) patience.listen();
    if (std::chrono::steady_clock::now() < patience.deadline) continue;
    fail(Errc::timeout, "{} waited until the deadline for the other ranks: every rank has to call it", call);
  }
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
  await(comm.get(), "ncclCommInitRankConfig", patience);
  return comm;
}

NcclComm nccl_split(ncclComm_t parent, int color, const NcclPatience& patience) {
  int rank = 0;
  nccl_check(ncclCommUserRank(parent, &rank), "ncclCommUserRank", parent);
  ncclConfig_t config = non_blocking();
  ncclComm_t made = nullptr;
  nccl_check(ncclCommSplit(parent, color, rank, &made, &config), "ncclCommSplit", parent);
  if (made == nullptr) fail(Errc::transport, "ncclCommSplit made no communicator for color {}", color);
  NcclComm comm(made);
  // The new communicator's own state may be asked for once the parent is done with the call.
  await(parent, "ncclCommSplit", patience);
  await(comm.get(), "ncclCommSplit", patience);
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
    await(comm.get(), "ncclCommFinalize", patience);
  } catch (const std::exception& error) {
    log::line(log::Level::debug, -1, "{}; the communicator is aborted", error.what());
    return;
  }
  const ncclResult_t code = ncclCommDestroy(comm.release());
  if (code == ncclSuccess || code == ncclInProgress) return;
  log::line(log::Level::warn, -1, "ncclCommDestroy: {}", ncclGetErrorString(code));
}

}  // namespace gradwire
