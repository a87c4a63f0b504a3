#pragma once
#include <vector>

namespace gradwire {

/// The ranks by the nodes that they are on, as `hierarchical` sees them: a bucket is cut into one chunk per rank, and
/// each node has one **agent** for each chunk: the chunk's owner in its own node, in the others their ranks in turn.
/// Pure: all ranks see the same.
class NodeMap {
 public:
  /// `nodes`: of each rank, numbered from 0 without gaps.
  NodeMap(std::vector<int> nodes, int rank);

  [[nodiscard]] int nodes() const noexcept { return static_cast<int>(ranks_.size()); }
  [[nodiscard]] int home() const noexcept { return home_; }
  [[nodiscard]] int node_of(int rank) const noexcept { return node_[static_cast<std::size_t>(rank)]; }
  /// Ascending.
  [[nodiscard]] const std::vector<int>& ranks_of(int node) const noexcept {
    return ranks_[static_cast<std::size_t>(node)];
  }
  /// The other ranks of this rank's node, ascending.
  [[nodiscard]] const std::vector<int>& mates() const noexcept { return mates_; }

  [[nodiscard]] int agent(int node, int chunk) const noexcept {
    return agents_[static_cast<std::size_t>(node)][static_cast<std::size_t>(chunk)];
  }
  [[nodiscard]] int home_agent(int chunk) const noexcept { return agent(home_, chunk); }
  [[nodiscard]] bool is_agent(int chunk) const noexcept { return home_agent(chunk) == rank_; }
  [[nodiscard]] bool is_foreign(int chunk) const noexcept { return node_of(chunk) != home_; }
  /// Of a chunk in all nodes but this one, by node.
  [[nodiscard]] std::vector<int> foreign_agents(int chunk) const;

 private:
  int rank_;
  std::vector<int> node_;
  int home_;
  std::vector<std::vector<int>> ranks_;   // by node
  std::vector<std::vector<int>> agents_;  // by node, of each chunk
  std::vector<int> mates_;
};

}  // namespace gradwire
