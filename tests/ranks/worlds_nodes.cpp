// The suites over threads of this process that take themselves for ranks on several nodes.
#include "ranks/worlds.hpp"
#include "support/spawn.hpp"

namespace gradwire::test {

std::vector<World> worlds() {
  struct Shape {
    int ranks;
    int ranks_per_node;
  };
  std::vector<World> all;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)  // every kind, but no large one
  const auto shapes = {Shape{1, 1}, Shape{3, 3}, Shape{2, 1}, Shape{4, 2}, Shape{7, 3}};
#else
  const auto shapes = {Shape{1, 1}, Shape{4, 1}, Shape{3, 3}, Shape{2, 1}, Shape{4, 2},
                       Shape{7, 3}, Shape{8, 2}, Shape{8, 4}, Shape{5, 4}, Shape{16, 4}};
#endif
  for (const auto& [ranks, per_node] : shapes) {
    all.push_back(
        {fmt::format("local_{}_nodes_of_{}", ranks, per_node),
         [ranks = ranks, per_node = per_node](const auto& body) { spawn(make_local(ranks, per_node), body); }});
  }
  all.push_back({"checked_6_nodes_of_2", [](const auto& body) {
                   std::vector<Communicator> communicators;
                   for (const Communicator& inner : make_local(6, 2)) communicators.push_back(make_checked(inner));
                   spawn(std::move(communicators), body);
                 }});
  return all;
}

}  // namespace gradwire::test
