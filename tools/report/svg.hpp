#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace gradwire::tools::report {

/// From values to pixels.
struct Scale {
  double low = 0;
  double high = 1;
  double from = 0;  ///< pixel of `low`
  double to = 1;    ///< pixel of `high`

  [[nodiscard]] double operator()(double value) const { return from + (value - low) / (high - low) * (to - from); }
};

/// Round numbers inside [low, high], about `wanted` of them; none where doubles are too coarse to tell them apart.
[[nodiscard]] std::vector<double> ticks(double low, double high, int wanted);

/// All text is escaped here. Colours come by class from the style sheet.
class Svg {
 public:
  /// A figure of this size in pixels; screen readers say `title` and `description`.
  Svg(double width, double height, std::string_view title, std::string_view description);

  void text(double x, double y, std::string_view css, std::string_view content);
  /// The same with the whole of `content` on hover, of which at most `most` characters are shown.
  void short_text(double x, double y, std::string_view css, std::string_view content, std::size_t most);
  void line(double x1, double y1, double x2, double y2, std::string_view css);
  /// Not there where it would be thinner than a tenth of a pixel, but for one with a tip. `tip` shows on hover.
  void rect(double x, double y, double width, double height, std::string_view css, std::string_view tip = {});
  /// `data` of a <path>.
  void path(const std::string& data, std::string_view css);

  [[nodiscard]] std::string finish() &&;

 private:
  std::string out_;
};

}  // namespace gradwire::tools::report
