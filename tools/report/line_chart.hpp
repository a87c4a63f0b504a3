#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace gradwire::tools::report {

struct Series {
  std::string name;
  std::string css;  ///< "s1".."s4", "limit", "dense"
  std::vector<double>
      values;  ///< one a point of the chart; NaN, and what is above 1e150 or below its negative, makes a gap
};

/// Values over steps.
struct LineChart {
  std::string title;
  std::string description;
  std::string unit;  ///< of the vertical axis, in words
  std::string (*format)(double) = nullptr;
  double first_step = 1;  ///< what the horizontal axis spans; wider than 0
  double last_step = 2;
  bool stairs = false;                ///< a value holds until the next point
  bool from_zero = true;              ///< the vertical axis
  bool logarithmic = false;           ///< the vertical axis, instead; values of 0 and less make a gap
  std::vector<std::uint64_t> points;  ///< steps
  std::vector<std::uint64_t> counts;  ///< how many steps, from its own on, a point is the mean of; empty: each of one
  std::vector<Series> series;
  std::vector<std::uint64_t> marks;  ///< steps with a thin line: plan changes
};

/// With a legend. On hover: the values of the nearest point.
[[nodiscard]] std::string draw(const LineChart& chart);

}  // namespace gradwire::tools::report
