#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "train/planning/choice.hpp"

namespace gradwire {

/// What a rank's policy has come to when plans are compared.
struct Vote {
  std::optional<std::uint64_t> plan;  ///< fingerprint; nothing where there is no plan, yet or at all
  bool failed = false;
};

/// Votes of all ranks.
struct Votes {
  int plans = 0;   ///< ranks that have one
  int failed = 0;  ///< ranks whose policy failed
  bool same = false;
};

/// Of all that ranks have to agree on in a plan.
[[nodiscard]] std::uint64_t fingerprint(const PlanAnswer& answer);

/// Votes travel as floats that ranks add up: exactly, over up to kMostVoters.
inline constexpr std::size_t kVoteFloats = 34;
inline constexpr int kMostVoters = 1 << 16;
void write_vote(const Vote& vote, std::span<float, kVoteFloats> out);
[[nodiscard]] Votes read_votes(std::span<const float, kVoteFloats> sums, int ranks);

}  // namespace gradwire
