#pragma once
#include <functional>
#include <span>
#include <vector>

#include "train/step_engine.hpp"

#include "gradwire/hook.hpp"
#include "gradwire/transport.hpp"

namespace gradwire {

/// Throws Errc::unsupported where only one thread may use the transport, as a hook with a thread of its own needs more.
void require_any_thread(const TransportInfo& transport);

/// Throws what GradientHook::ready throws for a gradient that does not fit its parameter of `count` elements.
void check_gradient(const ParamInfo& param, std::size_t count, const Tensor& gradient, StreamRef stream, Space space);

/// What ranks that register a hook must have in common, in words.
[[nodiscard]] std::vector<Agreement> describe_registration(std::span<const ParamInfo> params,
                                                           const HookOptions& options, const StepEngine& engine);

/// Collective: each rank prepares something, and all compare what their `prepare` gives. Where it throws on one rank
/// that rank rethrows, and the others, told so at once, throw Errc::rank_mismatch with its message. `subject`, such as
/// "the registration", is the same on all ranks.
void prepare_together(const Communicator& comm, Deadline deadline, const char* subject,
                      const std::function<std::vector<Agreement>()>& prepare);

}  // namespace gradwire
