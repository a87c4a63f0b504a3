#pragma once
#include <nlohmann/json.hpp>

#include <span>
#include <string>
#include <string_view>

#include "descent.hpp"

namespace gradwire::convergence {

using Json = nlohmann::ordered_json;

/// What `convergence` was asked for.
struct Settings {
  std::uint64_t seed = 1;
};

/// One descent as a JSON object: its options, where it ended, its history.
[[nodiscard]] Json as_json(const DescentOptions& options, const Descent& descent);

/// Prints `title` and, when given, the line under it.
void print_title(std::string_view title, std::string_view what);
/// One line of a table: the first two fields wide, numbers in three digits, "diverged" for infinity.
void print_row(std::string_view first, std::string_view second, std::span<const double> numbers);
void print_head(std::string_view first, std::string_view second, std::span<const std::string> names);

// The experiments. Each prints its tables and returns its rows.
[[nodiscard]] Json known_answer(const Settings& settings);
[[nodiscard]] Json noise_ball(const Settings& settings);
[[nodiscard]] Json numbers_of_workers(const Settings& settings);
[[nodiscard]] Json noise_and_workers(const Settings& settings);
[[nodiscard]] Json tuned(const Settings& settings);
[[nodiscard]] Json two_lossy_steps(const Settings& settings);

}  // namespace gradwire::convergence
