// Regions of sparse_scatter: balanced for any mixture of supports, the same for all, never out of order.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "collectives/regions.hpp"

namespace gradwire {
namespace {

using Places = std::vector<std::uint64_t>;

/// What a rank with these places tells the others.
void sketch(const Places& places, std::size_t ranks, std::vector<std::uint64_t>& out) {
  out.push_back(places.size());
  for (std::size_t j = 0; j < ranks; ++j) out.push_back(places.empty() ? 0 : places[j * places.size() / ranks]);
  out.push_back(places.empty() ? 0 : places.back() + 1);
}

std::vector<std::uint64_t> cuts_of(const std::vector<Places>& ranks, std::uint64_t total) {
  std::vector<std::uint64_t> sketches;
  for (const Places& places : ranks) sketch(places, ranks.size(), sketches);
  std::vector<std::uint64_t> cuts(ranks.size() + 1);
  balance_regions(sketches, total, cuts);
  EXPECT_EQ(cuts.front(), 0u);
  EXPECT_EQ(cuts.back(), total);
  EXPECT_TRUE(std::is_sorted(cuts.begin(), cuts.end()));
  return cuts;
}

std::vector<std::size_t> loads(const std::vector<Places>& ranks, const std::vector<std::uint64_t>& cuts) {
  std::vector<std::size_t> load(ranks.size(), 0);
  for (const Places& places : ranks) {
    for (const std::uint64_t place : places) {
      ++load[static_cast<std::size_t>(std::upper_bound(cuts.begin(), cuts.end() - 1, place) - cuts.begin()) - 1];
    }
  }
  return load;
}

/// `count` places in [first, last), squeezed towards `first` by the power.
Places draw(std::uint64_t first, std::uint64_t last, std::size_t count, double power, unsigned seed) {
  std::minstd_rand engine(seed * 7919u + 1);
  std::uniform_real_distribution<double> uniform;
  std::set<std::uint64_t> places;
  while (places.size() < count) {
    places.insert(first +
                  static_cast<std::uint64_t>(std::pow(uniform(engine), power) * static_cast<double>(last - first)));
  }
  return {places.begin(), places.end()};
}

void expect_balance(const std::vector<Places>& ranks, std::uint64_t total, double most) {
  const std::vector<std::size_t> load = loads(ranks, cuts_of(ranks, total));
  std::size_t all = 0;
  for (const Places& places : ranks) all += places.size();
  const double mean = static_cast<double>(all) / static_cast<double>(ranks.size());
  for (const std::size_t each : load) EXPECT_LE(static_cast<double>(each), most * mean);
}

TEST(Regions, AreBalancedWhereRanksChooseAlike) {
  for (const std::size_t n : {1u, 2u, 3u, 8u, 16u}) {
    for (const double power : {1.0, 4.0}) {
      std::vector<Places> ranks;
      for (unsigned r = 0; r < n; ++r) ranks.push_back(draw(0, 1'000'003, 10'007, power, r));
      expect_balance(ranks, 1'000'003, power == 1.0 ? 1.05 : 1.25);
    }
  }
}

TEST(Regions, AreBalancedWhereEachRankHasItsOwnZone) {
  for (const std::size_t n : {2u, 3u, 8u, 16u}) {
    std::vector<Places> ranks;
    for (unsigned r = 0; r < n; ++r) ranks.push_back(draw(r * 60'000, r * 60'000 + 5'000, 1'000, 1, r));
    expect_balance(ranks, n * 60'000, 1.1);
  }
}

TEST(Regions, AreBalancedWhereOneRankHasNearlyAll) {
  for (const std::size_t n : {2u, 3u, 8u}) {
    std::vector<Places> ranks(n);
    ranks[n - 1] = draw(300'000, 400'000, 9'001, 1, 5);
    ranks[0] = {17};
    expect_balance(ranks, 1'000'003, 1.1);
  }
}

TEST(Regions, AreEvenWithoutEntries) {
  EXPECT_EQ(cuts_of(std::vector<Places>(4), 1000), (std::vector<std::uint64_t>{0, 250, 500, 750, 1000}));
  EXPECT_EQ(cuts_of(std::vector<Places>(4), 1), (std::vector<std::uint64_t>{0, 0, 0, 0, 1}));
}

/// Numbers that no rank would send still give cuts in order.
TEST(Regions, StayInOrderWhateverTheSketchesSay) {
  std::mt19937_64 engine(3);
  for (int round = 0; round < 100; ++round) {
    const std::size_t n = 1 + engine() % 7;
    std::vector<std::uint64_t> sketches;
    for (std::size_t i = 0; i < n * sketch_size(n); ++i) sketches.push_back(engine() % 5000);
    std::vector<std::uint64_t> cuts(n + 1);
    balance_regions(sketches, 1000, cuts);
    EXPECT_TRUE(std::is_sorted(cuts.begin(), cuts.end()));
    EXPECT_EQ(cuts.back(), 1000u);
  }
}

TEST(Regions, AlignWithinItemsWhereTheyAreWide) {
  const std::vector<std::size_t> starts{0, 100'001, 100'003, 300'000};
  std::vector<std::uint64_t> wide{0, 20'130, 100'100, 150'000, 300'000};
  align_cuts(wide, starts);
  EXPECT_EQ(wide, (std::vector<std::uint64_t>{0, 20'224, 100'003, 149'923, 300'000}));
  std::vector<std::uint64_t> narrow{0, 20'130, 20'140, 150'000, 300'000};
  const std::vector<std::uint64_t> before = narrow;
  align_cuts(narrow, starts);
  EXPECT_EQ(narrow, before);
}

}  // namespace
}  // namespace gradwire
