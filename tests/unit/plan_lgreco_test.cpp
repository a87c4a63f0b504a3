// L-GreCo's program beside brute force over its definition (docs/adr/0008).
#include <gmock/gmock.h>

#include <cmath>
#include <optional>
#include <tuple>

#include "compress/isa.hpp"
#include "plan/bins.hpp"
#include "unit/plan_support.hpp"

#include "gradwire/error.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

double limit_of(const Table& table, double alpha) { return alpha * totals(table, reference_of(table)).error; }

/// The choice that the definition names, or none.
std::optional<Choice> brute_force(const Table& table, double alpha, double bins) {
  const double limit = limit_of(table, alpha);
  using Key = std::tuple<std::uint64_t, double, Choice>;
  std::optional<Key> best;
  std::optional<Choice> fewest;
  const auto bytes_of = [&](const Choice& choice) { return totals(table, choice).bytes; };
  Choice least(table.layers.size(), 0);
  for_each_choice(table, [&](const Choice& choice) {
    double used = 0;
    for (std::size_t l = 0; l < choice.size(); ++l) {
      const Candidate& candidate = chosen(table, choice, l);
      used += candidate.error == 0 ? 0 : std::ceil(candidate.error * bins / limit);
      const Candidate& now = chosen(table, least, l);
      if (std::tie(candidate.error, candidate.bytes, choice[l]) < std::tie(now.error, now.bytes, least[l]))
        least[l] = choice[l];
    }
    if (!(used <= bins) || totals(table, choice).error > limit) return;
    const Key key{bytes_of(choice), used, Choice(choice.rbegin(), choice.rend())};
    if (!best || key < *best) {
      best = key;
      fewest = choice;
    }
  });
  for (const Choice& other : {reference_of(table), least}) {
    const Totals sum = totals(table, other);
    if (sum.error <= limit && (!fewest || sum.bytes < bytes_of(*fewest))) fewest = other;
  }
  return fewest;
}

/// Fewest bytes under the real errors.
std::optional<std::uint64_t> exact_bytes(const Table& table, double limit) {
  std::optional<std::uint64_t> fewest;
  for_each_choice(table, [&](const Choice& choice) {
    const Totals sum = totals(table, choice);
    if (sum.error <= limit && (!fewest || sum.bytes < *fewest)) fewest = sum.bytes;
  });
  return fewest;
}

void expect_brute_force(const Table& table, double alpha, int bins) {
  const Policy policy = make_policy(fmt::format("lgreco(alpha={},bins={})", alpha, bins));
  const std::optional<Choice> wanted = brute_force(table, alpha, bins);
  if (!wanted) {
    EXPECT_THROW((void)policy.plan(table), Error) << to_json(table);
    return;
  }
  const Plan plan = policy.plan(table);
  const Totals sum = totals(table, *wanted);
  EXPECT_EQ(choice_of(table, plan), *wanted) << policy.spec() << "\n" << to_json(table);
  EXPECT_EQ(plan.bytes, sum.bytes);
  EXPECT_EQ(plan.error, sum.error);
  EXPECT_EQ(plan.squared_error, sum.squared_error);
  EXPECT_EQ(plan.limit, PlanLimit::error);
  EXPECT_EQ(plan.budget, limit_of(table, alpha));
  EXPECT_LE(plan.error, plan.budget);
}

TEST(LGreco, IsBruteForceOverItsDefinition) {
  std::mt19937 random(1);
  for (int i = 0; i < 400; ++i) {
    const Table table = random_table(random, {.whole = i % 2 == 1});
    for (const double alpha : {0.0, 0.5, 1.0, 1.7, 30.0})
      for (const int bins : {1, 7, 100, 10'000}) expect_brute_force(table, alpha, bins);
  }
}

/// Rounding up costs less than a bin a layer.
TEST(LGreco, IsAsGoodAsTheRealErrorsAllowWithinABinALayer) {
  std::mt19937 random(2);
  int gaps[] = {0, 0};
  for (int i = 0; i < 300; ++i) {
    const Table table = random_table(random);
    const double limit = limit_of(table, 1);
    const double layers = static_cast<double>(table.layers.size());
    const std::uint64_t exact = *exact_bytes(table, limit);
    for (const int bins : {40, 1'000'000}) {
      const Plan plan = make_policy(fmt::format("lgreco(bins={})", bins)).plan(table);
      EXPECT_GE(plan.bytes, exact);
      const auto within = exact_bytes(table, limit * (1 - layers / bins));
      if (within) {
        EXPECT_LE(plan.bytes, *within) << to_json(table);
      }
      gaps[bins == 40 ? 0 : 1] += plan.bytes > exact ? 1 : 0;
    }
  }
  EXPECT_GT(gaps[0], 0);  // with few bins rounding up does cost something
  EXPECT_LT(gaps[1], 5);  // with many hardly ever
}

TEST(LGreco, NeverCostsMoreThanTheReference) {
  std::mt19937 random(3);
  for (int i = 0; i < 300; ++i) {
    const Table table = random_table(random, {.most_layers = 12});
    for (const int bins : {1, 3, 10'000}) {
      const Plan plan = make_policy(fmt::format("lgreco(bins={})", bins)).plan(table);
      EXPECT_LE(plan.bytes, totals(table, reference_of(table)).bytes);
    }
  }
}

/// A limit larger by layers / bins has room for all that rounding up can cost.
TEST(LGreco, MoreErrorNeverCostsMoreBytes) {
  std::mt19937 random(4);
  for (int i = 0; i < 50; ++i) {
    const Table table = random_table(random, {.most_layers = 20, .most_candidates = 20});
    std::uint64_t before = ~std::uint64_t{0};
    for (double alpha = 1; alpha < 2; alpha *= 1.003) {
      const std::uint64_t bytes = make_policy(fmt::format("lgreco(alpha={})", alpha)).plan(table).bytes;
      EXPECT_LE(bytes, before) << alpha;
      before = bytes;
    }
  }
}

TEST(LGreco, BinsMayBeUsedUpAndAreNotClamped) {
  // two layers, both references at half of the limit: with a strict comparison neither plan below would be there
  const Table table{
      {{"a", 1, 0, {{"q4", 10, 1}, {"q2", 4, 2}, {"q1", 1, 3}}}, {"b", 1, 0, {{"q4", 10, 1}, {"q8", 15, 0}}}}};
  const Plan plan = make_policy("lgreco(bins=2)").plan(table);
  EXPECT_EQ(plan.bytes, 19U);  // q2 + q8 uses the whole limit; q1 is over it, although b has no error
  EXPECT_EQ(make_policy("lgreco(bins=3,alpha=1.5)").plan(table).bytes, 14U);
}

TEST(LGreco, BytesBeyond32Bits) {
  std::mt19937 random(5);
  for (int i = 0; i < 100; ++i) {
    Table table = random_table(random, {.whole = i % 2 == 1});
    for (TableLayer& layer : table.layers)
      for (Candidate& candidate : layer.candidates) candidate.bytes = (candidate.bytes << 32) + candidate.bytes % 7;
    expect_brute_force(table, 1, 100);
  }
}

TEST(LGreco, NoPlanSaysWhatTheLeastWouldBe) {
  const Table table{{{"a", 1, 0, {{"q4", 10, 1}, {"q2", 4, 2}}}, {"b", 1, 0, {{"q4", 10, 3}}}}};
  try {
    (void)make_policy("lgreco(alpha=0.5)").plan(table);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument);
    EXPECT_THAT(error.what(), HasSubstr("least errors sum to 4, over the budget of 0.5 x 4 = 2"));
  }
}

TEST(LGreco, TooManyCellsAreRefused) {
  Table table;
  for (int l = 0; l < 600; ++l)
    table.layers.push_back({fmt::format("layer{}", l), 1, 1, {{"q4", 10, 1}, {"q2", 5, 2}}});
  try {
    (void)make_policy("lgreco(bins=1000000)").plan(table);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::unsupported);
    EXPECT_THAT(error.what(), HasSubstr("600 layers x 1000000 bins"));
  }
}

/// Rows of all lengths, with items that begin anywhere in a block.
template <class T>
void expect_reference(void (*relax)(const kernels::Relax<T>&), std::mt19937& random) {
  const auto below = [&](std::uint32_t n) { return std::uniform_int_distribution<std::uint32_t>(0, n - 1)(random); };
  const BinKernels& reference = isa::kernels_of<BinKernels>("scalar");
  for (const std::size_t cells : std::vector<std::size_t>{1, 2, 15, 16, 17, 63, 64, 65, 127, 1000, 1009}) {
    std::vector<T> before(cells);
    for (T& cell : before) cell = static_cast<T>(below(1'000'000));
    std::vector<std::uint32_t> bins{0};
    std::vector<T> costs{static_cast<T>(2'000'000'000)};
    while (bins.back() < cells + 10) {
      bins.push_back(bins.back() + 1 + below(20));
      costs.push_back(static_cast<T>(below(2'000'000)));
    }
    std::vector<T> wanted(cells);
    std::vector<T> found(cells);
    kernels::Relax<T> job{before.data(), wanted.data(), bins.data(), costs.data(), bins.size(), cells};
    if constexpr (std::is_same_v<T, double>) {
      reference.relax_f64(job);
    } else {
      reference.relax_u32(job);
    }
    job.after = found.data();
    relax(job);
    EXPECT_EQ(found, wanted) << cells;
  }
}

TEST(BinKernels, AllInstructionSetsAgree) {
  std::mt19937 random(6);
  for (const std::string_view isa : isa::list()) {
    SCOPED_TRACE(isa);
    for (int i = 0; i < 20; ++i) {
      expect_reference<std::uint32_t>(isa::kernels_of<BinKernels>(isa).relax_u32, random);
      expect_reference<double>(isa::kernels_of<BinKernels>(isa).relax_f64, random);
    }
  }
}

}  // namespace
}  // namespace gradwire::testing
