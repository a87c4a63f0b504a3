#include "runs.hpp"

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace gradwire::convergence {
namespace {

/// JSON knows no infinity and no NaN.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

std::string text(double value) {
  if (std::isinf(value)) return "diverged";
  return std::isnan(value) ? "-" : fmt::format("{:.2e}", value);
}

}  // namespace

Json as_json(const DescentOptions& options, const Descent& descent) {
  Json steps = Json::array(), distances = Json::array(), gradients = Json::array();
  for (const Point& point : descent.history) {
    steps.push_back(point.step);
    distances.push_back(number(point.distance_squared));
    gradients.push_back(number(point.gradient_norm));
  }
  return {{"rule", options.rule},
          {"compressor", options.compressor},
          {"algorithm", options.algorithm},
          {"rate", options.rate},
          {"sigma", options.sigma},
          {"seed", options.seed},
          {"diverged", descent.diverged},
          {"floor", number(descent.floor())},
          {"drift", number(descent.drift)},
          {"owed", number(descent.owed)},
          {"wire_bytes_per_step", descent.wire_bytes_per_step},
          {"step", steps},
          {"distance_squared", distances},
          {"gradient_norm", gradients}};
}

void print_title(std::string_view title, std::string_view what) {
  fmt::print("\n# {}\n", title);
  if (!what.empty()) fmt::print("# {}\n", what);
}

void print_row(std::string_view first, std::string_view second, std::span<const double> numbers) {
  fmt::print("{:<28} {:<22}", first, second);
  for (const double value : numbers) fmt::print(" {:>12}", text(value));
  fmt::print("\n");
  std::fflush(stdout);
}

void print_head(std::string_view first, std::string_view second, std::span<const std::string> names) {
  fmt::print("{:<28} {:<22}", first, second);
  for (const std::string& name : names) fmt::print(" {:>12}", name);
  fmt::print("\n");
}

}  // namespace gradwire::convergence
