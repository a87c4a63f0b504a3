#pragma once
#include <functional>
#include <vector>

#include "gradwire/transport.hpp"

namespace gradwire::test {

/// Runs fn once per rank, each rank a thread over make_local(ranks), and joins them all. The first exception, or the
/// first failed ASSERT_ of a rank, aborts the transport so that no other rank waits for it; the exception is rethrown
/// here. Assertions may be used inside fn: they are reported after the join, each with its rank.
void spawn(int ranks, const std::function<void(Communicator&)>& fn);

/// The same over given communicators, for instance wrapped ones: element r is rank r's.
void spawn(std::vector<Communicator> communicators, const std::function<void(Communicator&)>& fn);

}  // namespace gradwire::test
