// The suites over threads of this process, up to as many ranks as tell an algorithm's growth.
#include "ranks/worlds.hpp"
#include "support/spawn.hpp"

namespace gradwire::test {

std::vector<World> worlds() {
  std::vector<World> all;
  for (const int ranks : {1, 2, 3, 4, 7, 8, 16}) {
    all.push_back({fmt::format("local_{}", ranks), [ranks](const auto& body) { spawn(ranks, body); }});
  }
  all.push_back({"checked_3", [](const auto& body) {
                   std::vector<Communicator> communicators;
                   for (const Communicator& inner : make_local(3)) communicators.push_back(make_checked(inner));
                   spawn(std::move(communicators), body);
                 }});
  return all;
}

}  // namespace gradwire::test
