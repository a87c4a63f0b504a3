#pragma once
#include <chrono>

#include "nccl.h"

/// \file What tests do to the model of NCCL, and ask of it.
namespace nccl_model {

/// From now on the communicators of rank `rank` report `error`, as after a failure on a device or of a peer.
/// ncclSuccess ends it.
void report_error(int rank, ncclResult_t error);

/// ncclCommAbort takes so long from now on, as where a driver hangs.
void set_abort_time(std::chrono::milliseconds time);

/// Communicators that have been neither destroyed nor aborted.
[[nodiscard]] int communicators();
/// Calls of ncclCommAbort so far.
[[nodiscard]] int aborts();

}  // namespace nccl_model
