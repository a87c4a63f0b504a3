#include "svg.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "markup.hpp"

namespace gradwire::tools::report {
namespace {

std::string title_of(std::string_view tip) { return tip.empty() ? "" : fmt::format("<title>{}</title>", escape(tip)); }

}  // namespace

std::vector<double> ticks(double low, double high, int wanted) {
  const double raw = (high - low) / wanted;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  const double digit = raw / power;
  const double step = power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
  if (!std::isfinite(step) || step <= 0) return {};
  const double slack = step * 1e-6;
  const double first = std::ceil((low - slack) / step);
  const double last = std::floor((high + slack) / step);
  constexpr double kMost = 100;
  constexpr double kExact = 9007199254740992;  // 2^53: whole numbers beyond are no neighbours
  if (last - first >= kMost || first < -kExact || last > kExact) return {};
  std::vector<double> values;
  for (double i = first; i <= last; ++i) values.push_back(i * step + 0.0);  // no -0
  return values;
}

Svg::Svg(double width, double height, std::string_view title, std::string_view description)
    : out_(
          fmt::format("<div class=\"scroll\"><svg viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
                      "role=\"img\" aria-label=\"{2}. {3}\">\n",
                      width, height, escape(title), escape(description))) {}

void Svg::text(double x, double y, std::string_view css, std::string_view content) {
  out_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}</text>\n", x, y, css, escape(content));
}

void Svg::short_text(double x, double y, std::string_view css, std::string_view content, std::size_t most) {
  const std::string shown = shorten(content, most);
  out_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}{}</text>\n", x, y, css, escape(shown),
                      shown == content ? "" : title_of(content));
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view css) {
  out_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2, y2,
                      css);
}

void Svg::rect(double x, double y, double width, double height, std::string_view css, std::string_view tip) {
  constexpr double kThinnest = 0.1;
  if (tip.empty() && (width < kThinnest || height < kThinnest)) return;
  out_ += fmt::format("<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" class=\"{}\"", x, y,
                      std::max(width, kThinnest), std::max(height, kThinnest), css);
  out_ += tip.empty() ? std::string("/>\n") : fmt::format(">{}</rect>\n", title_of(tip));
}

void Svg::path(const std::string& data, std::string_view css) {
  out_ += fmt::format("<path d=\"{}\" class=\"{}\"/>\n", data, css);
}

std::string Svg::finish() && { return std::move(out_) + "</svg></div>\n"; }

}  // namespace gradwire::tools::report
