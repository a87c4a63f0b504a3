#include "train/planning/layers.hpp"

#include <algorithm>
#include <limits>
#include <map>

#include "base/fail.hpp"
#include "collectives/algorithm.hpp"
#include "compress/spec.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire {
namespace {

/// The spec by which compressors are compared; empty where low rank would only fall back to another one.
std::string canonical(const std::string& spec, std::span<const std::size_t> shape) {
  const Compressor compressor = make_compressor(spec);
  const LowRank* const low_rank = compressor.low_rank();
  if (low_rank != nullptr && !low_rank->pays(matrix_view(shape))) return {};
  return std::string(compressor.spec());
}

/// `given`: the layer's compressor as the user wrote it.
PlannedLayer planned_layer(std::size_t param, const ParamInfo& info, const ParamPlan& plan, const std::string& given,
                           std::span<const std::string> candidates) {
  PlannedLayer layer{.param = param, .name = info.name, .count = plan.count, .shape = info.shape};
  std::vector<std::string> known;
  const auto add = [&](const std::string& text, const std::string& spec) {
    const auto found = std::find(known.begin(), known.end(), spec);
    const auto place = static_cast<std::size_t>(found - known.begin());
    if (found == known.end()) {
      known.push_back(spec);
      layer.specs.push_back(text);
    }
    return place;
  };
  for (const std::string& text : candidates) {
    if (const std::string spec = canonical(text, info.shape); !spec.empty()) add(text, spec);
  }
  const std::string own = plan.scheme(info, std::numeric_limits<std::uint64_t>::max(), false).compressor;
  layer.reference = add(make_compressor(given).spec() == own ? given : own, own);
  add(std::string(Schedule::kDense), std::string(Schedule::kDense));
  return layer;
}

}  // namespace

double travel_of(const Compressor& compressor, std::string_view algorithm, std::span<const int> nodes, Space space) {
  if (nodes.size() == 1 || compressor.spec() == Schedule::kDense) return 1;
  const bool selects = algorithm == "auto";
  const bool on_host = space == Space::host;
  const IntegerCoder* const coder = compressor.integer_coder();
  if (coder != nullptr && selects && (on_host || coder->on_device())) return 1;
  // (n - 1) frames against 2 (n - 1) / n of one, and k + 2k against 2k.
  const double gathered = static_cast<double>(nodes.size()) / 2;
  const double scattered = 1.5;
  if (algorithm == "gather_sum") return gathered;
  if (compressor.sparsifier() == nullptr) return 1;
  if (algorithm == "hierarchical" || (selects && has_levels(nodes)))
    return std::max(1.0, (1 + *std::max_element(nodes.begin(), nodes.end())) / 2.0);
  if (algorithm == "sparse_scatter") return scattered;
  return selects && on_host && !compressor.traits().unbiased ? std::min(gathered, scattered) : gathered;
}

std::vector<PlannedLayer> planned_layers(const Communicator& comm, std::span<const ParamInfo> params,
                                         std::span<const ParamPlan> plans, const HookOptions& options) {
  std::vector<std::string> candidates;
  if (measures(options.planning)) {
    candidates = options.planning.candidates.empty() ? default_candidates() : options.planning.candidates;
  }
  const bool by_name = !options.planning.policy.empty();
  std::vector<int> nodes = comm.transport().info().nodes;
  if (nodes.empty()) nodes.resize(static_cast<std::size_t>(comm.size()));
  std::vector<PlannedLayer> layers;
  std::map<std::string, std::size_t> named;
  for (std::size_t i = 0; i < params.size(); ++i) named[params[i].name] += plans[i].always_dense ? 0 : 1;
  for (std::size_t i = 0; i < params.size(); ++i) {
    if (plans[i].always_dense) continue;
    const std::string& scheme = params[i].compressor.empty() ? options.compressor : params[i].compressor;
    const std::string& name = params[i].name;
    require(!by_name || !name.empty(), "planning: the parameter with id {} has no name, and plans go by name",
            static_cast<std::uint32_t>(params[i].id));
    require(!by_name || named[name] == 1, "planning: two parameters are called '{}', and plans go by name", name);
    if (name.empty() || named[name] > 1) continue;
    PlannedLayer layer =
        planned_layer(i, params[i], plans[i], std::string(split_stages(scheme, '+').front()), candidates);
    for (const std::string& spec : layer.specs)
      layer.travel.push_back(travel_of(make_compressor(spec), options.algorithm, nodes, options.space));
    layers.push_back(std::move(layer));
  }
  return layers;
}

}  // namespace gradwire
