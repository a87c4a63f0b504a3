#include "collectives/node_map.hpp"

#include <algorithm>

namespace gradwire {

NodeMap::NodeMap(std::vector<int> nodes, int rank)
    : rank_(rank),
      node_(std::move(nodes)),
      home_(node_of(rank)),
      ranks_(static_cast<std::size_t>(1 + *std::max_element(node_.begin(), node_.end()))) {
  const auto size = static_cast<int>(node_.size());
  for (int each = 0; each < size; ++each) {
    ranks_[static_cast<std::size_t>(node_of(each))].push_back(each);
    if (each != rank && node_of(each) == home_) mates_.push_back(each);
  }
  for (int node = 0; node < this->nodes(); ++node) {
    std::size_t foreign = 0;  // chunks so far
    std::vector<int>& agents = agents_.emplace_back();
    for (int chunk = 0; chunk < size; ++chunk) {
      agents.push_back(node_of(chunk) == node ? chunk : ranks_of(node)[foreign++ % ranks_of(node).size()]);
    }
  }
}

std::vector<int> NodeMap::foreign_agents(int chunk) const {
  std::vector<int> agents;
  for (int node = 0; node < nodes(); ++node) {
    if (node != home_) agents.push_back(agent(node, chunk));
  }
  return agents;
}

}  // namespace gradwire
