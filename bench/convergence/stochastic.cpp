// With gradient noise and heterogeneity: every rule at its best rate and eta.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "runs.hpp"
#include "theory.hpp"

namespace gradwire::convergence {
namespace {

/// 1 down by half decades to a hundredth of delta, and that.
std::vector<double> etas(double delta) {
  std::vector<double> all;
  for (int k = 0; std::pow(10, -k / 2.0) > 1.001 * delta / 100; ++k) all.push_back(std::pow(10, -k / 2.0));
  all.push_back(delta / 100);
  return all;
}

struct Best {
  double floor = std::numeric_limits<double>::infinity();
  double rate = 0;
  double eta = 0;
};

/// One problem, compressor and noise; every rule over the whole grid of rates and etas.
class Sweep {
 public:
  Sweep(const Problem& problem, const Settings& settings) : problem_(problem), settings_(settings) {}

  /// The best of all rates and etas; {0} for a rule without one.
  Best over(const std::string& rule, const std::string& compressor, const std::vector<double>& etas) {
    Best best;
    for (const double eta : etas) {
      for (int k = 1; k <= 7; ++k) {
        DescentOptions options{.rule = eta == 0 ? rule : fmt::format("{}({:.6g})", rule, eta),
                               .compressor = compressor};
        options.rate = std::ldexp(1 / problem_.smoothness(), -k);
        options.steps = kSteps;
        options.sigma = kSigma;
        options.seed = settings_.seed;
        options.record_every = 20;
        const double floor = descend(problem_, options).floor();
        rows_.push_back({{"rule", rule}, {"compressor", compressor}, {"eta", eta}, {"rate", options.rate}});
        rows_.back()["floor"] = std::isfinite(floor) ? Json(floor) : Json(nullptr);
        if (floor < best.floor) best = {floor, options.rate, eta};
      }
    }
    return best;
  }
  [[nodiscard]] const Json& rows() const noexcept { return rows_; }

  static constexpr std::uint64_t kSteps = 1500;
  static constexpr double kSigma = 1;

 private:
  const Problem& problem_;
  const Settings& settings_;
  Json rows_ = Json::array();
};

Json tuned_case(const std::string& compressor, double zeta, const Settings& settings) {
  const auto problem = make_quadratic({.workers = 8, .zeta = zeta, .seed = settings.seed});
  const double delta = contraction(compressor, problem->dimension());
  Sweep sweep(*problem, settings);
  Json best = Json::array();
  const auto add = [&](const std::string& rule, const std::string& over, const std::vector<double>& grid) {
    const Best found = sweep.over(rule, over, grid);
    print_row(over == "none" ? "dense, " + rule : rule, "", std::array{found.floor, found.rate, found.eta});
    best.push_back(
        {{"rule", rule}, {"compressor", over}, {"floor", found.floor}, {"rate", found.rate}, {"eta", found.eta}});
  };
  print_title(fmt::format("Tuned: {} (delta {:.3g}), quadratic, 8 workers, d = 256, zeta = {}, sigma = {}, {} steps",
                          compressor, delta, zeta, Sweep::kSigma, Sweep::kSteps),
              fmt::format("rates 1/(2 L) to 1/(128 L) by factors of 2, eta 1 to delta/100 = {:.2g} by half decades",
                          delta / 100));
  print_head("rule", "", std::array<std::string, 3>{"distance^2", "best rate", "best eta"});
  add("none", "none", {0});
  add("ef21_sgdm", "none", {0.1, 0.0316, 0.01, 0.00316});  // momentum alone
  add("none", compressor, {0});
  add("ef", compressor, {0});
  add("ef21", compressor, {0});
  add("ef21_sgdm", compressor, etas(delta));
  add("econtrol", compressor, etas(delta));
  return {{"compressor", compressor}, {"zeta", zeta}, {"delta", delta}, {"best", best}, {"runs", sweep.rows()}};
}

}  // namespace

Json tuned(const Settings& settings) {
  Json cases = Json::array();
  for (const double zeta : {0.0, 1.0, 4.0}) cases.push_back(tuned_case("topk(0.05)", zeta, settings));
  cases.push_back(tuned_case("sign", 1, settings));
  return cases;
}

Json noise_and_workers(const Settings& settings) {
  constexpr double kRate = 0.02;
  print_title(
      "Noise and workers: distance^2 at the end, quadratic, d = 256, zeta = 1, sigma = 1, topk(0.05), rate 0.02",
      "theory: sigma^2/n leads for dense, EF, EF21-SGDM and EControl (slope -1); EF21 has a term without 1/n");
  print_head("rule", "", std::array<std::string, 6>{"n = 2", "4", "8", "16", "32", "slope"});
  Json rows = Json::array();
  for (const char* const rule : {"none", "ef", "ef21", "ef21_sgdm(0.01)", "econtrol(0.01)"}) {
    const std::array workers{2.0, 4.0, 8.0, 16.0, 32.0};
    std::vector<double> numbers;
    for (const double n : workers) {
      const auto problem = make_quadratic({.workers = static_cast<int>(n), .seed = settings.seed});
      DescentOptions options{.rule = rule, .compressor = std::string_view(rule) == "none" ? "none" : "topk(0.05)"};
      options.rate = kRate;
      options.steps = 3000;
      options.sigma = 1;
      options.seed = settings.seed;
      const Descent descent = descend(*problem, options);
      numbers.push_back(descent.floor());
      rows.push_back({{"rule", rule}, {"workers", n}, {"floor", descent.floor()}});
    }
    numbers.push_back(log_slope(workers, numbers));
    print_row(std::string_view(rule) == "none" ? "dense" : rule, "", numbers);
  }
  return rows;
}

}  // namespace gradwire::convergence
