#include "collectives/round.hpp"

#include <algorithm>

namespace gradwire {

ReductionRound::ReductionRound(Operation& outer, std::vector<BucketItem> items, std::uint64_t kind,
                               std::size_t segment_bytes)
    : outer_(outer),
      inner_{.comm = outer.comm,
             .items = std::move(items),
             .slot = outer.slot,
             .nodes = outer.nodes,
             .inner = outer.inner,
             .space = outer.space},
      kind_(kind) {
  inner_.buffers.resize(inner_.items.size());
  for (const BucketItem& item : inner_.items) {
    const auto same = [&](const BucketItem& other) { return other.param == item.param; };
    const auto found = std::find_if(outer.items.begin(), outer.items.end(), same);
    inner_.flags.push_back(static_cast<std::size_t>(found - outer.items.begin()));
  }
  // With an inner compressor between nodes. Between two ranks both send the same bytes, and gather_sum is done in one
  // exchange instead of two.
  if (outer.inner) {
    algorithm_ = make_hierarchical(inner_, segment_bytes);
  } else if (outer.size() == 2) {
    algorithm_ = make_gather_sum(inner_, segment_bytes);
  } else {
    algorithm_ = make_scatter_reduce(inner_, segment_bytes);
  }
  pipeline_.emplace(*algorithm_);
}

void ReductionRound::begin(Bytes workspace) {
  constexpr std::uint64_t kSpread = 0xd1b5'4a32'd192'ed03;
  inner_.seed = outer_.seed + kind_ * kSpread;
  inner_.fingerprint = outer_.fingerprint + kind_ * kSpread;
  inner_.step = outer_.step;
  inner_.deadline = outer_.deadline;
  inner_.number = outer_.number;
  inner_.stream = outer_.stream;
  inner_.non_finite = outer_.non_finite;
  inner_.verdict = outer_.verdict;
  inner_.stats = {};
  algorithm_->set_workspace(workspace);
  pipeline_->begin(keeps_to_stream() ? &inner_.stream : nullptr);
  (void)pipeline_->advance();
}

bool ReductionRound::keeps_to_stream() const {
  return inner_.on_device() && inner_.comm.transport().info().stream_ordered;
}

void ReductionRound::before(StreamRef stream) {
  if (!keeps_to_stream()) Completion::before(stream);
}

void ReductionRound::end() {
  outer_.verdict = inner_.verdict;
  outer_.stats.wire_bytes += inner_.stats.wire_bytes;
  outer_.stats.inter_node_bytes += inner_.stats.inter_node_bytes;
  outer_.stats.encode_us += inner_.stats.encode_us;
  outer_.stats.decode_us += inner_.stats.decode_us;
}

}  // namespace gradwire
