// The suites over threads whose communicators are NCCL's: host messages go beside NCCL, over `local` or TCP.
#include <iostream>

#include "ranks/worlds.hpp"
#include "support/nccl_ranks.hpp"
#include "support/spawn.hpp"

#ifndef GRADWIRE_TEST_RANKS
#define GRADWIRE_TEST_RANKS 1, 2, 3, 8
#endif

namespace gradwire::test {

std::vector<World> worlds() {
  std::vector<World> all;
  if (most_nccl_ranks() == 0) std::cout << "SKIPPED: no CUDA device to run on" << std::endl;
  for (const int ranks : {GRADWIRE_TEST_RANKS}) {
    if (ranks > most_nccl_ranks()) continue;
    all.push_back({fmt::format("nccl_{}", ranks), [ranks](const auto& body) { spawn(make_nccl_ranks(ranks), body); }});
    all.push_back(
        {fmt::format("nccl_tcp_{}", ranks), [ranks](const auto& body) { spawn(make_nccl_tcp_ranks(ranks), body); }});
  }
  return all;
}

}  // namespace gradwire::test
