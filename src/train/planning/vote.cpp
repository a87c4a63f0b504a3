#include "train/planning/vote.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <string>

namespace gradwire {
namespace {

// Who has a plan, who failed, and the digits of its fingerprint with their squares: numbers are all the same exactly
// where n times the sum of squares is the square of the sum. A digit is at most 15, so sums of squares over up to
// 74 000 ranks are exact in f32.
constexpr std::size_t kDigits = 16;
constexpr std::size_t kHave = 0;
constexpr std::size_t kFailed = 1;
constexpr std::size_t kDigitsAt = 2;
constexpr std::size_t kSquaresAt = kDigitsAt + kDigits;
static_assert(kVoteFloats == kSquaresAt + kDigits);
static_assert(15 * 15 * kMostVoters < (1 << 24));

}  // namespace

std::uint64_t fingerprint(const PlanAnswer& answer) {
  std::string text = answer.kept ? "kept" : "new";
  for (const PlanLayer& layer : answer.plan.layers)
    text += fmt::format("\n{}\t{}\t{}", layer.name, layer.spec, layer.bytes);
  return XXH3_64bits(text.data(), text.size());
}

void write_vote(const Vote& vote, std::span<float, kVoteFloats> out) {
  std::fill(out.begin(), out.end(), 0.0F);
  out[kFailed] = vote.failed ? 1.0F : 0.0F;
  if (!vote.plan) return;
  out[kHave] = 1;
  std::uint64_t digits = *vote.plan;
  for (std::size_t d = 0; d < kDigits; ++d, digits >>= 4U) {
    const auto digit = static_cast<float>(digits & 15U);
    out[kDigitsAt + d] = digit;
    out[kSquaresAt + d] = digit * digit;
  }
}

Votes read_votes(std::span<const float, kVoteFloats> sums, int ranks) {
  Votes votes{static_cast<int>(sums[kHave]), static_cast<int>(sums[kFailed]), true};
  for (std::size_t d = 0; d < kDigits; ++d) {
    const double sum = sums[kDigitsAt + d];
    if (static_cast<double>(ranks) * static_cast<double>(sums[kSquaresAt + d]) != sum * sum) votes.same = false;
  }
  return votes;
}

}  // namespace gradwire
