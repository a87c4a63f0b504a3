#pragma once
#include <vector>

namespace gradwire {

/// Ranks 0 .. ranks_per_node-1 on node 0, and so on.
inline std::vector<int> consecutive_nodes(int size, int ranks_per_node) {
  std::vector<int> nodes;
  for (int rank = 0; rank < size; ++rank) nodes.push_back(rank / ranks_per_node);
  return nodes;
}

}  // namespace gradwire
