// Without gradient noise: which rules reach the minimiser, how fast, and how large the ball is in which the others
// stay.
#include <fmt/format.h>

#include <array>
#include <limits>

#include "runs.hpp"
#include "theory.hpp"

namespace gradwire::convergence {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

struct Case {
  std::string compressor;
  std::string econtrol;  ///< its eta must be small beside the compressor's delta
};

// Sign's blocks are longer than x: one scale for all of it, delta at least 1/d.
const std::array kCases{Case{"topk(0.05)", "econtrol(0.01)"}, Case{"sign", "econtrol(0.001)"},
                        Case{"q2", "econtrol(0.01)"}};

/// A rate in units of 1/L. Momentum m makes steps 1/(1 - m) times longer.
double rate_of(const std::string& rule, double in_units, const Problem& problem) {
  return (rule.starts_with("dgc") ? 0.1 : 1.0) * in_units / problem.smoothness();
}

Json one_problem(const std::string& name, const Problem& problem, double rate, const Settings& settings) {
  print_title(
      fmt::format("{}: {} workers, d = {}, mu = {:.3g}, L = {:.3g}, zeta = {:.3g}, ||x*||^2 = {:.3g}", name,
                  problem.workers(), problem.dimension(), problem.mu(), problem.smoothness(), problem.heterogeneity(),
                  descend(problem, {.rule = "none", .steps = 0}).history[0].distance_squared),
      fmt::format("rate {:.3g}/L (dgc {:.3g}/L). Decay of ln distance^2 a step: theory promises rate mu where the "
                  "rate is small enough; gradient descent itself ends at 2 rate mu = {:.2e}",
                  rate, rate * 0.1, 2 * rate * problem.mu() / problem.smoothness()));
  print_head("compressor", "rule", std::array<std::string, 4>{"distance^2", "decay", "rate mu", "drift"});
  Json rows = Json::array();
  const auto run = [&](const std::string& compressor, const std::string& rule) {
    DescentOptions options{.rule = rule, .compressor = compressor};
    options.rate = rate_of(rule, rate, problem);
    options.steps = 3000;
    options.seed = settings.seed;
    const Descent descent = descend(problem, options);
    const double start = descent.history.front().distance_squared;
    const bool linear = descent.floor() < 1e-6 * start;
    const std::array numbers{descent.floor(), linear ? descent.decay(1e-9 * start, 0.3 * start) : kNone,
                             linear ? options.rate * problem.mu() : kNone, descent.drift};
    print_row(compressor, rule, numbers);
    rows.push_back(as_json(options, descent));
    rows.back()["problem"] = name;
    rows.back()["mu"] = problem.mu();
    if (linear) rows.back()["decay"] = numbers[1];
  };
  run("none", "none");
  for (const Case& each : kCases) {
    for (const std::string& rule : {std::string("none"), std::string("ef"), std::string("dgc(0.9)"),
                                    std::string("ef21"), std::string("ef21_sgdm(0.1)"), each.econtrol}) {
      run(each.compressor, rule);
    }
  }
  run("randomk(0.1,scale=unbiased)", "none");
  run("randomk(0.1,scale=unbiased)", "diana(0.1)");
  return rows;
}

}  // namespace

Json known_answer(const Settings& settings) {
  const auto quadratic = make_quadratic({.workers = 8, .seed = settings.seed});
  const auto logistic = make_logistic({.workers = 8, .seed = settings.seed});
  Json rows = one_problem("quadratic", *quadratic, 0.1, settings);
  for (const Json& row : one_problem("logistic", *logistic, 0.1, settings)) rows.push_back(row);
  return rows;
}

Json noise_ball(const Settings& settings) {
  print_title("EF's ball: distance^2 at the end, quadratic, 8 workers, d = 256, no gradient noise",
              "theory: rate^2 zeta^2, slope 2 in both; at zeta = 0 there is no ball");
  Json rows = Json::array();
  for (const Case& each : kCases) {
    const auto run = [&](double zeta, double rate) {
      const auto problem = make_quadratic({.workers = 8, .zeta = zeta, .seed = settings.seed});
      DescentOptions options{.rule = "ef", .compressor = each.compressor};
      options.rate = rate;
      options.steps = static_cast<std::uint64_t>(200 / rate);
      options.seed = settings.seed;
      const Descent descent = descend(*problem, options);
      rows.push_back({{"compressor", each.compressor}, {"zeta", zeta}, {"rate", rate}, {"floor", descent.floor()}});
      return descent.floor();
    };
    const std::array zetas{0.25, 0.5, 1.0, 2.0, 4.0};
    const std::array rates{0.2, 0.1, 0.05, 0.025};
    std::vector<double> numbers;
    for (const double zeta : zetas) numbers.push_back(run(zeta, 0.1));
    print_head(each.compressor, "", std::array<std::string, 7>{"zeta 0.25", "0.5", "1", "2", "4", "slope", "zeta 0"});
    const double slope = log_slope(zetas, numbers);
    numbers.push_back(slope);
    numbers.push_back(run(0, 0.1));
    print_row("", "rate 0.1", numbers);
    numbers.clear();
    for (const double rate : rates) numbers.push_back(run(1, rate));
    print_head("", "", std::array<std::string, 5>{"rate 0.2", "0.1", "0.05", "0.025", "slope"});
    numbers.push_back(log_slope(rates, numbers));
    print_row("", "zeta 1", numbers);
  }
  return rows;
}

Json numbers_of_workers(const Settings& settings) {
  print_title("Numbers of workers: distance^2 at the end, quadratic, d = 256, zeta = 1, topk(0.05), rate 0.1, no noise",
              "theory: EF21 and EControl go on to 0 whatever n");
  print_head("rule", "", std::array<std::string, 5>{"n = 2", "4", "8", "16", "32"});
  Json rows = Json::array();
  for (const char* const rule : {"none", "ef", "ef21", "econtrol(0.01)"}) {
    std::vector<double> numbers;
    for (const int workers : {2, 4, 8, 16, 32}) {
      const auto problem = make_quadratic({.workers = workers, .seed = settings.seed});
      const DescentOptions options{.rule = rule, .steps = 2000, .seed = settings.seed};
      const Descent descent = descend(*problem, options);
      numbers.push_back(descent.floor());
      rows.push_back({{"rule", rule}, {"workers", workers}, {"floor", descent.floor()}, {"drift", descent.drift}});
    }
    print_row(rule, "", numbers);
  }
  return rows;
}

}  // namespace gradwire::convergence
