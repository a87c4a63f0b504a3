#include "train/registration.hpp"

#include <fmt/ranges.h>

#include <exception>

#include "base/env.hpp"
#include "base/fail.hpp"
#include "train/planning/layers.hpp"

namespace gradwire {
namespace {

constexpr std::string_view name(NonFinite policy) noexcept {
  switch (policy) {
    case NonFinite::skip: return "skip";
    case NonFinite::dense: return "dense";
    default: return "error";
  }
}

}  // namespace

void require_any_thread(const TransportInfo& transport) {
  if (transport.any_thread) return;
  fail(Errc::unsupported,
       "transport '{}' ({}) may be used from one thread only, so the hook cannot have a progress thread: make it for "
       "any thread (with MPI: MpiThreads::library and MPI_THREAD_MULTIPLE), or set HookOptions::library_thread = "
       "false and drive the hook yourself",
       transport.name, transport.detail);
}

void check_gradient(const ParamInfo& param, std::size_t count, const Tensor& gradient, StreamRef stream, Space space) {
  require(gradient.count == count && gradient.dtype == param.dtype,
          "ready: parameter '{}' is registered as {}[{}], its gradient is {}[{}]", param.name, name(param.dtype), count,
          name(gradient.dtype), gradient.count);
  require(gradient.data != nullptr, "ready: parameter '{}' has no memory", param.name);
  require(gradient.space == space, "ready: parameter '{}' is in {} memory, the hook was made for {} memory", param.name,
          name(gradient.space), name(space));
  require(space == Space::host || reinterpret_cast<std::uintptr_t>(gradient.data) % size_of(gradient.dtype) == 0,
          "ready: parameter '{}' is at {}, which is no multiple of its elements' {} bytes", param.name, gradient.data,
          size_of(gradient.dtype));
  require(stream.is_host() == (space == Space::host), "ready: parameter '{}' is in {} memory, but its stream is {}",
          param.name, name(space),
          stream.is_host() ? "the host's (a default stream is StreamRef::legacy_default() or per_thread_default())"
                           : "of a device");
}

std::vector<Agreement> describe_registration(std::span<const ParamInfo> params, const HookOptions& options,
                                             const StepEngine& engine) {
  std::vector<Agreement> entries;
  entries.push_back({"the number of parameters", std::to_string(params.size())});
  entries.push_back(
      {"the hook's options",
       fmt::format("algorithm {}, inner {}, {} bucket bytes, {} segment bytes, seed {}, {}, non-finite {}, {}",
                   options.algorithm, options.inner, options.bucket_bytes, environment().segment_bytes, options.seed,
                   options.average ? "mean" : "sum", name(options.non_finite),
                   environment().check ? "checked" : "unchecked")});
  if (options.space == Space::device) entries.push_back({"the hook's memory", "device"});
  if (measures(options.planning)) {
    const PlanningOptions& planning = options.planning;
    entries.push_back({"the hook's planning",
                       fmt::format("policy {}, candidates {}, start {}, period {}, {} samples, lag {}, hysteresis {}, "
                                   "max_error {}, watch {}, max_layer_error {}, max_residual_ratio {}",
                                   planning.policy.empty() ? "none, a trace only" : planning.policy,
                                   fmt::join(planning.candidates, ","), planning.start, planning.period,
                                   planning.samples, planning.lag, planning.hysteresis, planning.max_error,
                                   planning.watch, planning.max_layer_error, planning.max_residual_ratio)});
  } else {
    entries.push_back({"the hook's planning", "none"});
  }
  for (std::size_t i = 0; i < params.size(); ++i) {
    entries.push_back({fmt::format("parameter '{}'", params[i].name),
                       fmt::format("id {} {}[{}] {}", static_cast<std::uint32_t>(params[i].id), name(params[i].dtype),
                                   shape_text(params[i].shape), engine.plan(i).text())});
  }
  return entries;
}

void prepare_together(const Communicator& comm, Deadline deadline, const char* subject,
                      const std::function<std::vector<Agreement>()>& prepare) {
  std::vector<Agreement> entries{{subject, "well formed"}};
  std::exception_ptr refusal;
  try {
    for (Agreement& entry : prepare()) entries.push_back(std::move(entry));
  } catch (const std::exception& error) {
    refusal = std::current_exception();
    entries = {{subject, error.what()}};
  }
  try {
    comm.agree(entries, deadline);
  } catch (const Error&) {
    if (!refusal) throw;
  }
  if (refusal) std::rethrow_exception(refusal);
}

}  // namespace gradwire
