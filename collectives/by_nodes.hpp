#pragma once
#include <vector>

#include "collectives/algorithm.hpp"
#include "collectives/message.hpp"
#include "collectives/node_map.hpp"

namespace gradwire {

/// What algorithms that sum by nodes have in common: stage 0, in which the ranks of a node bring their inputs to each
/// chunk, coded by the inner compressor, to the chunk's agent, and the sum that the agent makes of them.
class ByNodes : public Algorithm {
 public:
  [[nodiscard]] int segments() const noexcept final { return layout_.segments(); }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept final {
    return lane_bytes_ * static_cast<std::size_t>(lanes());
  }

 protected:
  ByNodes(Operation& op, std::size_t segment_bytes)
      : Algorithm(op),
        layout_(op.items, op.size(), segment_bytes, &*op.inner),
        rank_(op.rank()),
        size_(op.size()),
        map_(op.nodes, op.rank()) {}

  /// Where this rank's input to a chunk goes out, and where its mates' arrive of which it is the agent.
  [[nodiscard]] virtual Bytes my_input(int segment, int chunk) const = 0;
  [[nodiscard]] virtual Bytes mate_message(int segment, int chunk, std::size_t mate) const = 0;

  void bring(int chunk, int segment, std::span<const Piece> pieces) {
    const std::vector<int>& mates = map_.mates();
    if (map_.is_agent(chunk)) {
      for (std::size_t i = 0; i < mates.size(); ++i) {
        const Bytes room = mate_message(segment, chunk, i);
        recvs_.push_back({arriving(op_, pieces, room, false, &*op_.inner), mates[i]});
      }
      return;
    }
    const Bytes out = my_input(segment, chunk);
    const std::size_t size = pack_input(op_, {0, segment}, pieces, out, &*op_.inner);
    sends_.push_back({out.slice(0, size), map_.home_agent(chunk)});
  }

  void add_up_node(const Sums& sums, int chunk, int segment, std::span<const Piece> pieces) {
    const std::vector<int>& mates = map_.mates();
    sums.load(pieces);
    for (std::size_t i = 0; i < mates.size(); ++i) {
      unpack_into_sums(op_, {{0, segment}, pieces, mate_message(segment, chunk, i), mates[i], &*op_.inner}, sums,
                       Write::add);
    }
  }

  Layout layout_;
  int rank_;
  int size_;
  NodeMap map_;
  std::size_t lane_bytes_ = 0;
  std::vector<Send> sends_;
  std::vector<Recv> recvs_;
};

}  // namespace gradwire
