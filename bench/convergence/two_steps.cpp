// The second lossy step: who owes what the owner of a chunk loses when it encodes the sum.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "runs.hpp"
#include "theory.hpp"

namespace gradwire::convergence {
namespace {

constexpr int kWorkers = 8;

struct Table {
  const Problem& problem;
  const Settings& settings;
  Json rows = Json::array();

  DescentOptions options(const std::string& compressor, const std::string& rule, double sigma) const {
    DescentOptions options{.rule = rule, .compressor = compressor};
    options.steps = 2000;
    options.sigma = sigma;
    options.seed = settings.seed;
    options.parts = problem.workers();
    return options;
  }

  /// The same descent three times: one lossy step, two of them, two of which nobody owes the second.
  void add(const std::string& compressor, const std::string& rule, double sigma) {
    DescentOptions options = this->options(compressor, rule, sigma);
    const Descent one = descend(problem, options);
    keep(options, one, "one step");
    options.algorithm = "scatter_reduce";
    const Descent two = descend(problem, options);
    keep(options, two, "two steps");
    const Descent dropped = descend_two_steps(problem, options, OwnerError::dropped);
    keep(options, dropped, "dropped");
    const std::array numbers{sigma, one.floor(), two.floor(), dropped.floor(), two.drift, dropped.drift};
    print_row(compressor, rule, numbers);
  }

  void keep(const DescentOptions& options, const Descent& descent, const char* variant) {
    rows.push_back(as_json(options, descent));
    rows.back()["variant"] = variant;
  }
};

/// What docs/design.md section 1 warns of: the owner chooses no more of the sum than each rank chose of its part.
Json reselected(const Settings& settings) {
  print_title(
      "A sum chosen again by its owner: distance^2 at the end, rate 0.1, zeta = 1, 16 workers, d = 1024",
      "same k: the owner sends as many as a rank did and keeps the rest; sparse_scatter: room for twice as many, and "
      "keeps the rest too. Owed: square root of all ranks' ||residual||^2");
  print_head("compressor", "rule",
             std::array<std::string, 6>{"one step", "sparse_sc.", "same k", "dropped", "owed one", "owed sparse"});
  const auto problem = make_quadratic({.workers = 16, .dimension = 1024, .seed = settings.seed});
  Json rows = Json::array();
  for (const char* const rule : {"ef", "ef21", "econtrol(0.01)"}) {
    DescentOptions options{.rule = rule, .compressor = "topk(0.05)"};
    options.steps = 2000;
    options.seed = settings.seed;
    options.parts = 16;
    const Descent one = descend(*problem, options);
    options.algorithm = "sparse_scatter";
    const Descent twice = descend(*problem, options);
    const Descent same = descend_two_steps(*problem, options, OwnerError::credited);
    const Descent dropped = descend_two_steps(*problem, options, OwnerError::dropped);
    print_row("topk(0.05)", rule,
              std::array{one.floor(), twice.floor(), same.floor(), dropped.floor(), one.owed, twice.owed});
    rows.push_back({{"rule", rule},
                    {"one_step", one.floor()},
                    {"sparse_scatter", twice.floor()},
                    {"same_k", same.floor()},
                    {"dropped", dropped.floor()},
                    {"owed_one_step", one.owed},
                    {"owed_sparse_scatter", twice.owed}});
  }
  return rows;
}

/// Where the theorem's bound is above what f32 leaves.
double largest_share(const Descent& descent, const Ef21Theory& theory) {
  double largest = 0;
  for (const Point& point : descent.history) {
    const double bound = theory.distance_squared(point.step);
    if (bound > 1e-8) largest = std::max(largest, point.distance_squared / bound);
  }
  return largest;
}

Json against_theorem(const Problem& problem, const Settings& settings) {
  print_title("EF21 at the rate of its theorem, no noise: largest distance^2 / bound over the descent",
              "the theorem is for exact sums (one); decay of ln distance^2 a step beside the promised rate mu");
  print_head("compressor", "",
             std::array<std::string, 7>{"delta", "rate mu", "decay one", "decay two", "one", "two", "dropped"});
  Json rows = Json::array();
  for (const char* const compressor : {"q4(bucket=32)", "sign(bucket=32)"}) {
    const double delta = contraction(compressor, problem.dimension());
    const Ef21Theory theory(problem, delta);
    DescentOptions options{.rule = "ef21", .compressor = compressor};
    options.rate = theory.rate();
    options.steps = static_cast<std::uint64_t>(std::min(20 / (theory.rate() * problem.mu()), 15'000.0));
    options.seed = settings.seed;
    options.parts = problem.workers();
    const Descent one = descend(problem, options);
    options.algorithm = "scatter_reduce";
    const Descent two = descend(problem, options);
    const Descent dropped = descend_two_steps(problem, options, OwnerError::dropped);
    const std::array numbers{delta,
                             options.rate * problem.mu(),
                             one.decay(1e-8, 0.3),
                             two.decay(1e-8, 0.3),
                             largest_share(one, theory),
                             largest_share(two, theory),
                             largest_share(dropped, theory)};
    print_row(compressor, "", numbers);
    rows.push_back({{"compressor", compressor},
                    {"delta", delta},
                    {"rate", options.rate},
                    {"decay_one", numbers[2]},
                    {"decay_two", numbers[3]},
                    {"one", numbers[4]},
                    {"two", numbers[5]},
                    {"dropped", numbers[6]}});
  }
  return rows;
}

}  // namespace

Json two_lossy_steps(const Settings& settings) {
  const auto problem = make_quadratic({.workers = kWorkers, .seed = settings.seed});
  print_title("Two lossy steps: distance^2 at the end, quadratic, 8 workers, d = 256, zeta = 1, rate 0.1",
              "one: gather_sum; two: scatter_reduce; dropped: two, the owner's error owed by nobody");
  print_head("compressor", "rule",
             std::array<std::string, 6>{"sigma", "one", "two", "dropped", "drift two", "drift dropped"});
  Table table{*problem, settings};
  for (const double sigma : {0.0, 1.0}) {
    for (const char* const compressor : {"q4(bucket=32)", "q2(bucket=32)", "sign(bucket=32)"}) {
      for (const char* const rule : {"none", "ef", "ef21", "econtrol(0.01)"}) table.add(compressor, rule, sigma);
    }
  }
  Json bound = against_theorem(*problem, settings);
  Json again = reselected(settings);
  return {{"descents", std::move(table.rows)}, {"theorem", std::move(bound)}, {"reselected", std::move(again)}};
}

}  // namespace gradwire::convergence
