#include "line_chart.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "markup.hpp"
#include "svg.hpp"

namespace gradwire::tools::report {
namespace {

constexpr double kWidth = 1040;
constexpr double kHeight = 260;
constexpr double kLeft = 84;
constexpr double kRight = 1024;
constexpr double kTop = 26;
constexpr double kBottom = 218;
constexpr std::size_t kMaxMarks = 40;    // more would be a grey field
constexpr std::size_t kMaxStrips = 200;  // what hover tells apart

/// The vertical axis, in values or in their decimal logarithms.
struct Vertical {
  Scale scale;
  bool logarithmic = false;

  [[nodiscard]] double operator()(double value) const { return scale(logarithmic ? std::log10(value) : value); }
  [[nodiscard]] std::vector<double> marks() const {
    if (!logarithmic) return ticks(scale.low, scale.high, 4);
    std::vector<double> values;
    const bool is_short = scale.high - scale.low < 2.2;
    for (double power = std::floor(scale.low); power <= scale.high; ++power) {
      for (const double digit : {1.0, 2.0, 5.0}) {
        const double place = power + std::log10(digit);
        const double value = std::pow(10.0, power) * digit;  // 0 where doubles end
        if ((digit == 1 || is_short) && place >= scale.low && place <= scale.high && value > 0) values.push_back(value);
      }
    }
    return values;
  }
};

/// NaN, what has no logarithm, and what is so large that axes with margins would end beyond all doubles.
bool is_gap(const LineChart& chart, double value) {
  constexpr double kLargest = 1e150;
  return !(std::abs(value) <= kLargest) || (chart.logarithmic && value <= 0);
}

Vertical vertical(const LineChart& chart) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const Series& series : chart.series) {
    for (const double value : series.values) {
      if (is_gap(chart, value)) continue;
      const double place = chart.logarithmic ? std::log10(value) : value;
      low = std::min(low, place);
      high = std::max(high, place);
    }
  }
  if (!std::isfinite(low)) low = high = 0;
  const bool from_zero = chart.from_zero && !chart.logarithmic && low >= 0;
  if (from_zero) low = 0;
  constexpr double kNarrowest = 1e-9;  // of the values: less is rounding, and has no round numbers in it
  const double largest = std::max(std::abs(low), std::abs(high));
  if (high - low <= kNarrowest * largest) high = low + (largest == 0 ? 1 : largest * 0.1);
  const double margin = 0.06 * (high - low);
  return {{.low = from_zero ? 0 : low - margin, .high = high + margin, .from = kBottom, .to = kTop}, chart.logarithmic};
}

void draw_axes(Svg& svg, const LineChart& chart, const Scale& x, const Vertical& y) {
  svg.text(kLeft, 14, "unit", chart.unit);
  for (const double value : y.marks()) {
    svg.line(kLeft, y(value), kRight, y(value), "grid");
    svg.text(kLeft - 8, y(value) + 4, "tick end", chart.format(value));
  }
  for (const double value : ticks(x.low, x.high, 8)) {
    if (value != std::floor(value)) continue;
    svg.line(x(value), kBottom, x(value), kBottom + 5, "axis");
    svg.text(x(value), kBottom + 19, "tick middle", whole_text(value));
  }
  svg.line(kLeft, kBottom, kRight, kBottom, "axis");
  svg.text((kLeft + kRight) / 2, kBottom + 37, "unit middle", "step");
}

std::string path_of(const LineChart& chart, const Series& series, const Scale& x, const Vertical& y) {
  std::string data;
  bool open = false;
  for (std::size_t i = 0; i < chart.points.size(); ++i) {
    const double value = series.values[i];
    if (is_gap(chart, value)) {
      open = false;
      continue;
    }
    const double here = x(static_cast<double>(chart.points[i]));
    data += fmt::format("{}{:.1f},{:.1f}", open ? "L" : "M", here, y(value));
    open = true;
    if (chart.stairs) {
      const bool last = i + 1 == chart.points.size();
      data += fmt::format("H{:.1f}", last ? x.to : x(static_cast<double>(chart.points[i + 1])));
    }
  }
  return data;
}

/// A point that stands alone has no line.
void draw_lone_points(Svg& svg, const LineChart& chart, const Series& series, const Scale& x, const Vertical& y) {
  if (chart.stairs) return;
  const auto there = [&](std::size_t i) { return i < series.values.size() && !is_gap(chart, series.values[i]); };
  for (std::size_t i = 0; i < series.values.size(); ++i) {
    if (!there(i) || there(i + 1) || (i > 0 && there(i - 1))) continue;
    const double here = x(static_cast<double>(chart.points[i]));
    svg.path(fmt::format("M{:.1f},{:.1f}h0.01", here, y(series.values[i])), "line point " + series.css);
  }
}

/// Strips that nobody sees, each around a point, with its values.
void draw_strips(Svg& svg, const LineChart& chart, const Scale& x) {
  const std::size_t every = (chart.points.size() + kMaxStrips - 1) / kMaxStrips;
  const auto place = [&](std::size_t i) { return x(static_cast<double>(chart.points[i])); };
  for (std::size_t i = 0; i < chart.points.size(); i += every) {
    const std::size_t next = i + every;
    const double right = next < chart.points.size() ? chart.stairs ? place(next) : (place(i) + place(next)) / 2 : x.to;
    const double left =
        i == 0 || chart.stairs ? (i == 0 && !chart.stairs ? x.from : place(i)) : (place(i - every) + place(i)) / 2;
    const std::uint64_t count = chart.counts.empty() ? 1 : chart.counts[i];
    const std::string first = whole_text(static_cast<double>(chart.points[i]));
    std::string tip = count == 1 ? fmt::format("step {}", first)
                                 : fmt::format("steps {} to {}, mean", first,
                                               whole_text(static_cast<double>(chart.points[i] + count - 1)));
    for (const Series& series : chart.series)
      if (!std::isnan(series.values[i])) tip += fmt::format("\n{}: {}", series.name, chart.format(series.values[i]));
    svg.rect(left, kTop, right - left, kBottom - kTop, "hit", tip);
  }
}

std::string legend(const LineChart& chart) {
  std::string out = "<ul class=\"legend\">";
  for (const Series& series : chart.series) {
    out += fmt::format(
        "<li><svg class=\"key\" viewBox=\"0 0 26 10\" width=\"26\" height=\"10\" aria-hidden=\"true\">"
        "<path d=\"M1,5H25\" class=\"line {}\"/></svg>{}</li>",
        series.css, escape(series.name));
  }
  return out + "</ul>\n";
}

}  // namespace

std::string draw(const LineChart& chart) {
  const Scale x{.low = chart.first_step, .high = chart.last_step, .from = kLeft, .to = kRight};
  const Vertical y = vertical(chart);
  Svg svg(kWidth, kHeight, chart.title, chart.description);
  draw_axes(svg, chart, x, y);
  if (chart.marks.size() <= kMaxMarks) {
    for (const std::uint64_t mark : chart.marks) {
      const double here = x(static_cast<double>(mark));
      svg.line(here, kTop, here, kBottom, "mark");
    }
  }
  for (const Series& series : chart.series) {
    svg.path(path_of(chart, series, x, y), "line " + series.css);
    draw_lone_points(svg, chart, series, x, y);
  }
  draw_strips(svg, chart, x);
  return legend(chart) + std::move(svg).finish();
}

}  // namespace gradwire::tools::report
