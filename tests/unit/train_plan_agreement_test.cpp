// What ranks add up while they train, so that all come to the same plan: votes on plans, and what guards have seen.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "train/planning/guards.hpp"
#include "train/planning/vote.hpp"

namespace gradwire {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using VoteFloats = std::array<float, kVoteFloats>;

Votes count(const std::vector<Vote>& votes) {
  VoteFloats sum{};
  for (const Vote& vote : votes) {
    VoteFloats one;
    one.fill(7);  // what was summed before
    write_vote(vote, one);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += one[i];
  }
  return read_votes(sum, static_cast<int>(votes.size()));
}

TEST(Vote, IsTheSameWhereAllPlansAre) {
  for (const std::uint64_t plan : {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{0x0123456789abcdef}}) {
    const Votes votes = count(std::vector<Vote>(5, {plan, false}));
    EXPECT_EQ(votes.plans, 5);
    EXPECT_EQ(votes.failed, 0);
    EXPECT_TRUE(votes.same) << plan;
  }
}

TEST(Vote, OneDigitOfOneRankIsSeenAmongAsManyAsThereCanBe) {
  for (const int ranks : {2, 3, 1000, kMostVoters}) {
    std::vector<Vote> votes(static_cast<std::size_t>(ranks), {~std::uint64_t{0}, false});
    EXPECT_TRUE(count(votes).same) << ranks;
    for (const unsigned digit : {0u, 7u, 15u}) {
      votes.back().plan = ~(std::uint64_t{1} << (4 * digit));
      EXPECT_FALSE(count(votes).same) << ranks << " ranks, digit " << digit;
    }
  }
}

TEST(Vote, RanksWithoutAPlanAndRanksThatFailedAreCounted) {
  const Votes votes = count({{1, false}, {}, {{}, true}, {1, false}});
  EXPECT_EQ(votes.plans, 2);
  EXPECT_EQ(votes.failed, 1);
  EXPECT_FALSE(votes.same);
}

TEST(Vote, AFingerprintIsOfAllThatRanksAgreeOn) {
  PlanAnswer answer;
  answer.plan.layers = {{"a", "q2", 10, 1}, {"b", "q4", 20, 2}};
  const std::uint64_t same = fingerprint(answer);
  PlanAnswer other = answer;
  other.plan.solver_ms = 3;
  other.detail = "in other words";
  EXPECT_EQ(fingerprint(other), same);
  other.kept = true;
  EXPECT_NE(fingerprint(other), same);
  for (std::size_t field = 0; field < 4; ++field) {
    other = answer;
    PlanLayer& layer = other.plan.layers[1];
    if (field == 0) layer.name = "c";
    if (field == 1) layer.spec = "q3";
    if (field == 2) layer.bytes = 21;
    if (field == 3) other.plan.layers.pop_back();
    EXPECT_NE(fingerprint(other), same) << field;
  }
}

/// Two layers of 4 elements on `ranks` ranks that all see the same.
struct Watch {
  explicit Watch(const PlanningOptions& options) : guards(2, options) {}

  /// Each rank sends `sent` of layer 0, gets n times as much, and loses `lost`; it owes `owed`. Layer 1 is in order.
  std::vector<Guards::Finding> see(float gradient, float sent, float lost, double owed, int ranks) {
    const auto fill = [](float value) { return std::vector<float>(4, value); };
    const auto tensor = [](const std::vector<float>& values) { return ConstTensor(values.data(), values.size()); };
    guards.begin_step(true);
    for (const std::size_t layer : {std::size_t{0}, std::size_t{1}}) {
      const std::vector<float> given = fill(layer == 0 ? gradient : 1);
      const std::vector<float> compensated = fill(layer == 0 ? sent : 1);
      const std::vector<float> sum = fill((layer == 0 ? sent : 1) * static_cast<float>(ranks));
      const std::vector<float> left = fill(layer == 0 ? lost : 0);
      guards.see_gradient(layer, tensor(given), 1, StreamRef::host());
      guards.see_sent(layer, tensor(compensated), StreamRef::host());
      guards.see_delivered(layer, tensor(sum), tensor(left), StreamRef::host());
    }
    const std::vector<float> debt = fill(static_cast<float>(owed / 2));
    guards.see_owed(0, tensor(debt), StreamRef::host());
    guards.end_step(false);
    return sums(ranks);
  }

  std::vector<Guards::Finding> sums(int ranks) {
    std::vector<float> floats(Guards::floats(2), 7);
    guards.pack(floats);
    for (float& value : floats) value *= static_cast<float>(ranks);
    return guards.check(floats, ranks);
  }

  Guards guards;
};

PlanningOptions bounds(double layer_error, double residual_ratio) {
  PlanningOptions options;
  options.max_layer_error = layer_error;
  options.max_residual_ratio = residual_ratio;
  return options;
}

TEST(Guards, FindTheLayerThatLosesTooMuch) {
  for (const int ranks : {1, 4}) {
    SCOPED_TRACE(ranks);
    Watch watch(bounds(0.25, 0));
    // Squares of what is lost, over those of what is sent and of the sum.
    const float loses = 0.25F * std::sqrt(1.0F + static_cast<float>(ranks));
    EXPECT_THAT(watch.see(1, 1, loses * 0.99F, 1e9, ranks), IsEmpty());
    const std::vector<Guards::Finding> found = watch.see(1, 1, loses * 1.01F, 0, ranks);
    ASSERT_THAT(found, SizeIs(1));
    EXPECT_EQ(found[0].layer, 0u);
    EXPECT_THAT(found[0].why, HasSubstr("loses 0.25"));
  }
}

TEST(Guards, FindTheLayerThatOwesTooMuch) {
  Watch watch(bounds(0, 10));
  EXPECT_THAT(watch.see(1, 1, 100, 19.9, 3), IsEmpty()) << "its gradient's norm is 2";
  const std::vector<Guards::Finding> found = watch.see(1, 1, 100, 20.1, 3);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].layer, 0u);
  EXPECT_THAT(found[0].why, HasSubstr("owes 10"));
}

TEST(Guards, GradientsAreScaledFirst) {
  Watch watch(bounds(0, 10));
  const std::vector<float> ones(4, 1);
  watch.guards.begin_step(true);
  watch.guards.see_gradient(0, {ones.data(), ones.size()}, 0.5F, StreamRef::host());
  watch.guards.see_sent(0, {ones.data(), ones.size()}, StreamRef::host());
  watch.guards.see_delivered(0, {ones.data(), ones.size()}, {ones.data(), ones.size()}, StreamRef::host());
  const std::vector<float> debt(4, 5.5F);
  watch.guards.see_owed(0, {debt.data(), debt.size()}, StreamRef::host());
  watch.guards.end_step(false);
  EXPECT_THAT(watch.sums(1), SizeIs(1));
}

TEST(Guards, PassOverWhatIsNotKnown) {
  Watch watch(bounds(0.25, 10));
  EXPECT_THAT(watch.see(1, std::numeric_limits<float>::infinity(), 9, 0, 2), IsEmpty());
  EXPECT_THAT(watch.see(1, 1e20F, 9e19F, 0, 2), IsEmpty()) << "beyond what squares in f32 hold";
  EXPECT_THAT(watch.see(1, 1, 9, 0, 2), SizeIs(1));

  // One of two ranks has not watched the layer.
  std::vector<float> floats(Guards::floats(2));
  watch.guards.pack(floats);
  EXPECT_THAT(watch.guards.check(floats, 2), IsEmpty());
  EXPECT_THAT(watch.guards.check(floats, 1), SizeIs(1));

  // A rule that has no use for what is lost.
  const std::vector<float> ones(4, 1);
  watch.guards.begin_step(true);
  watch.guards.see_sent(0, {ones.data(), ones.size()}, StreamRef::host());
  watch.guards.see_delivered(0, {ones.data(), ones.size()}, {static_cast<const float*>(nullptr), 4}, StreamRef::host());
  watch.guards.see_owed(0, {ones.data(), ones.size()}, StreamRef::host());
  watch.guards.end_step(false);
  EXPECT_THAT(watch.sums(1), IsEmpty());
}

TEST(Guards, OnlyWatchedStepsThatWereNotDroppedCount) {
  Watch watch(bounds(0.25, 10));
  EXPECT_THAT(watch.see(1, 1, 9, 0, 1), SizeIs(1));
  EXPECT_TRUE(watch.guards.has_seen());
  watch.guards.begin_step(false);
  watch.guards.end_step(false);
  EXPECT_FALSE(watch.guards.has_seen());
  EXPECT_THAT(watch.sums(1), IsEmpty());

  watch.guards.begin_step(true);
  watch.guards.end_step(true);
  EXPECT_FALSE(watch.guards.has_seen());

  EXPECT_THAT(watch.see(1, 1, 9, 0, 1), SizeIs(1));
  watch.guards.forget();
  EXPECT_THAT(watch.sums(1), IsEmpty());
}

}  // namespace
}  // namespace gradwire
