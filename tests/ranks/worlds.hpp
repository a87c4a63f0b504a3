#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "base/fail.hpp"
#include "support/watchdog.hpp"

#include "gradwire/transport.hpp"

namespace gradwire::test {

/// Where a suite runs: a transport and a number of ranks.
struct World {
  std::string name;
  /// Runs the body once per rank, here or in other processes. A rank that fails aborts the transport.
  std::function<void(const std::function<void(Communicator&)>& body)> run;
};

inline void PrintTo(const World& world, std::ostream* out) { *out << world.name; }  // NOLINT: gtest's name

/// What this binary tests: several sizes of `local`, or the `mpi` job it is part of.
std::vector<World> worlds();

inline std::string world_name(const ::testing::TestParamInfo<World>& info) { return info.param.name; }

class WorldTest : public ::testing::TestWithParam<World> {
 protected:
  void run(const std::function<void(Communicator&)>& body) { GetParam().run(body); }
};

/// Far enough away that only a hang meets it, near enough that the watchdog does not come first.
inline Deadline patience() { return std::chrono::steady_clock::now() + std::chrono::seconds(60); }

/// Waits; the watchdog names what for.
inline void wait(const Work& work) {
  const Watched watched([&work] { return work.describe(); });
  work.wait(patience());
}

/// The error an action ends with, or Errc::ok.
struct Outcome {
  Errc code = Errc::ok;
  std::string message;
};
template <class Action>
Outcome outcome_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {};
}

}  // namespace gradwire::test
