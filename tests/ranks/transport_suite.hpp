#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "base/fail.hpp"

#include "gradwire/transport.hpp"

namespace gradwire::test {

/// Where the conformance suite runs: a transport and a number of ranks.
struct World {
  std::string name;
  /// Runs the body once per rank, here or in other processes. A rank that fails aborts the transport.
  std::function<void(const std::function<void(Communicator&)>& body)> run;
};

inline void PrintTo(const World& world, std::ostream* out) { *out << world.name; }  // NOLINT: gtest's name

/// What this binary tests: several sizes of `local`, or the `mpi` job it is part of.
std::vector<World> worlds();

inline std::string world_name(const ::testing::TestParamInfo<World>& info) { return info.param.name; }

class TransportTest : public ::testing::TestWithParam<World> {
 protected:
  void run(const std::function<void(Communicator&)>& body) { GetParam().run(body); }
};

/// Far enough away that only a hang meets it, near enough that the watchdog does not come first.
inline Deadline patience() { return std::chrono::steady_clock::now() + std::chrono::seconds(60); }

inline constexpr std::size_t kSizes[] = {0, 1, 13, 4099, 1'000'003};

/// What rank `from` sends rank `to` as message number `sequence`.
inline std::vector<std::byte> pattern(int from, int to, std::size_t size, std::uint32_t sequence = 0) {
  std::vector<std::byte> bytes(size);
  auto state = static_cast<std::uint32_t>(from * 7919 + to * 104729) + sequence * 1299709u + 1u;
  for (std::byte& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

inline ConstBytes view(const std::vector<std::byte>& bytes) { return {bytes.data(), bytes.size()}; }
inline Bytes view(std::vector<std::byte>& bytes) { return {bytes.data(), bytes.size()}; }

struct Neighbours {
  explicit Neighbours(const Communicator& comm)
      : next((comm.rank() + 1) % comm.size()), previous((comm.rank() + comm.size() - 1) % comm.size()) {}
  int next;
  int previous;
};

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
