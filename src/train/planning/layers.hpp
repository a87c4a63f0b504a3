#pragma once
#include <span>
#include <string>
#include <vector>

#include "train/buckets.hpp"

#include "gradwire/transport.hpp"

namespace gradwire {

/// A parameter whose compressor a plan decides about, and what there is to choose from.
struct PlannedLayer {
  std::size_t param = 0;  ///< by index of registration
  std::string name;
  std::size_t count = 0;
  std::vector<std::size_t> shape;
  std::size_t reference = 0;
  std::vector<std::string> specs{};  ///< as the user wrote them, each compressor once, "none" among them
  /// Of each: how many times as far its frames travel as dense values do (travel_of()).
  std::vector<double> travel{};
};

/// Whether a hook measures anything: for a policy, or for a trace.
[[nodiscard]] inline bool measures(const PlanningOptions& options) noexcept {
  return !options.policy.empty() || !options.trace.empty();
}

/// The parameters that are not always dense, in order of registration. Candidates that low rank would only fall back
/// from are left out; without measures() there are none but a layer's own. Throws Errc::invalid_argument for candidates
/// that are no compressors, and, with a policy, for a layer without a name or with another's; without one such layers
/// are left out.
[[nodiscard]] std::vector<PlannedLayer> planned_layers(const Communicator& comm, std::span<const ParamInfo> params,
                                                       std::span<const ParamPlan> plans, const HookOptions& options);

/// Bytes that a rank sends of a frame, over those that a dense all-reduce sends of one of that size: 1, but for frames
/// that are gathered, and sparse ones. By nodes, of what crosses between them; inside a node all is dense. `nodes`: of
/// each rank. `space`: "auto" takes other ways on devices.
[[nodiscard]] double travel_of(const Compressor& compressor, std::string_view algorithm, std::span<const int> nodes,
                               Space space);

}  // namespace gradwire
