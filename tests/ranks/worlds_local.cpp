// The suites over threads of this process. A target may define GRADWIRE_TEST_RANKS to run at other numbers of them.
#include "ranks/worlds.hpp"
#include "support/spawn.hpp"

#ifndef GRADWIRE_TEST_RANKS
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GRADWIRE_TEST_RANKS 1, 3, 8  // mistakes in memory and races do not need every number
#else
#define GRADWIRE_TEST_RANKS 1, 2, 3, 4, 7, 8
#endif
#endif

namespace gradwire::test {

std::vector<World> worlds() {
  std::vector<World> all;
  for (const int ranks : {GRADWIRE_TEST_RANKS}) {
    all.push_back({fmt::format("local_{}", ranks), [ranks](const auto& body) { spawn(ranks, body); }});
    if (ranks != 3) continue;
    all.push_back({"checked_3", [](const auto& body) {
                     std::vector<Communicator> communicators;
                     for (const Communicator& inner : make_local(3)) communicators.push_back(make_checked(inner));
                     spawn(std::move(communicators), body);
                   }});
  }
  return all;
}

}  // namespace gradwire::test
