// Time of the policies' solvers on one thread, on a table of the size of L-GreCo's largest published one:
//
//     solver_bench [LAYERS CANDIDATES BINS [POLICY...]]      default: 81 121 10000
//
// Layers are matrices, candidates ranks, singular values fall as a power of their number: errors and bytes as PowerSGD
// would have them. With every instruction set there is, for lgreco.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <random>
#include <string>
#include <vector>

#include "compress/isa.hpp"

#include "gradwire/plan.hpp"

namespace gradwire {
namespace {

constexpr int kSamples = 21;

Table low_rank_table(std::size_t layers, std::size_t candidates) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> power(0.4, 1.2);
  std::normal_distribution<double> log_norm(0, 1);
  const std::size_t sides[] = {384, 512, 1024, 1536, 2048};
  Table table;
  for (std::size_t l = 0; l < layers; ++l) {
    const std::size_t rows = sides[l % 5];
    const std::size_t cols = sides[l / 5 % 5];
    TableLayer layer{fmt::format("layer{}", l), rows * cols, candidates / 4, {}};
    const double decay = power(random);
    const double norm = std::exp(log_norm(random));
    double tail = 0;  // sum of squares of singular values from each rank on
    std::vector<double> errors(candidates);
    for (std::size_t r = std::min(rows, cols); r > 0; --r) {
      if (r <= candidates) errors[r - 1] = norm * std::sqrt(tail);
      tail += std::pow(static_cast<double>(r), -2 * decay);
    }
    for (std::size_t c = 0; c < candidates; ++c)
      layer.candidates.push_back({fmt::format("powersgd(rank={})", c + 1), 4 * (c + 1) * (rows + cols), errors[c]});
    table.layers.push_back(std::move(layer));
  }
  return table;
}

/// The most work that a table of this size can be for lgreco: all bins are spare, no candidate beats another.
Table full_table(std::size_t layers, std::size_t candidates) {
  Table table;
  for (std::size_t l = 0; l < layers; ++l) {
    TableLayer layer{fmt::format("layer{}", l), 1'000'000, candidates / 2, {}};
    for (std::size_t c = 0; c < candidates; ++c) {
      const double error = static_cast<double>(c) * (1 + 0.01 * static_cast<double>(l));
      layer.candidates.push_back({fmt::format("c{}", c), 1'000'000 / (c + 1) + 1000 - c, error});
    }
    table.layers.push_back(std::move(layer));
  }
  return table;
}

void measure(const Table& table, const std::string& spec) {
  const Policy policy = make_policy(spec);
  std::vector<double> ms;
  Plan plan;
  for (int i = 0; i < kSamples; ++i) {
    plan = policy.plan(table);
    ms.push_back(plan.solver_ms);
  }
  std::sort(ms.begin(), ms.end());
  fmt::print("{:<34} {:>8} {:>9.2f} {:>9.2f} {:>12} {:>10.4f} {:>10.4f}", spec, isa::current(), ms.front(),
             ms[ms.size() / 2], plan.bytes, plan.error, std::sqrt(plan.squared_error));
  if (const std::optional<double> share = gap(plan)) fmt::print(" {:>10.4f}", 100 * *share);
  fmt::print("\n");
}

void run(const std::string& title, const Table& table, const std::vector<std::string>& policies) {
  fmt::print("{}: {} layers x {} candidates; median of {}\n", title, table.layers.size(),
             table.layers.front().candidates.size(), kSamples);
  fmt::print("{:<34} {:>8} {:>9} {:>9} {:>12} {:>10} {:>10} {:>10}\n", "policy", "isa", "least ms", "ms", "bytes",
             "error", "root sq.", "gap %");
  const std::string best(isa::current());
  for (const std::string_view isa : isa::list()) {
    isa::select(isa);
    measure(table, policies.front());
  }
  isa::select(best);
  for (std::size_t i = 1; i < policies.size(); ++i) measure(table, policies[i]);
}

}  // namespace
}  // namespace gradwire

int main(int argc, char** argv) {
  try {
    const std::vector<std::string> given(argv + 1, argv + argc);
    const auto size = [&](std::size_t i, std::size_t otherwise) {
      return i < given.size() ? std::max<std::size_t>(1, std::strtoull(given[i].c_str(), nullptr, 10)) : otherwise;
    };
    const std::string bins = given.size() > 2 ? given[2] : "10000";
    std::vector<std::string> policies{"lgreco(bins=" + bins + ")", "uniform", "budget(error=1)",
                                      "budget(error=1,norm=plain)", "budget(ratio=8)"};
    if (given.size() > 3) policies.insert(policies.end(), given.begin() + 3, given.end());
    gradwire::run("low rank", gradwire::low_rank_table(size(0, 81), size(1, 121)), policies);
    gradwire::run("full", gradwire::full_table(size(0, 81), size(1, 121)), policies);
  } catch (const std::exception& error) {
    fmt::print(stderr, "solver_bench: {}\n", error.what());
    return 1;
  }
}
