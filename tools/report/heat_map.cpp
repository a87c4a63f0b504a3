#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <vector>

#include "markup.hpp"
#include "sections.hpp"
#include "specs.hpp"
#include "svg.hpp"

namespace gradwire::tools::report {
namespace {

constexpr double kWidth = 1040;
constexpr double kLeft = 300;
constexpr double kRight = 1024;
constexpr double kTop = 6;
constexpr double kLetter = 6.3;  // width of a letter in a cell
constexpr std::size_t kNameLetters = 40;

// Powers of two: class 0 is 1/32 bit and less, class 10 is 32 bits.
constexpr int kLeastPower = -5;
constexpr int kMostPower = 5;

/// The colour of so many bits: "b0".."b10", "unknown".
std::string bits_class(double bits) {
  if (std::isnan(bits)) return "unknown";
  const int power = std::clamp(static_cast<int>(std::lround(std::log2(bits))), kLeastPower, kMostPower);
  return fmt::format("b{}", power - kLeastPower);
}

/// A layer, and where it stands in each plan; null where the plan does not have it.
struct Row {
  std::string name;
  std::vector<const Layer*> layers;
};

std::vector<Row> rows_of(const Run& run) {
  std::vector<Row> rows;
  std::map<std::string_view, std::size_t> index;
  for (std::size_t p = 0; p < run.plans.size(); ++p) {
    for (const Layer& layer : run.plans[p].layers) {
      const auto [found, is_new] = index.emplace(layer.choice.name, rows.size());
      if (is_new) rows.push_back({layer.choice.name, std::vector<const Layer*>(run.plans.size())});
      rows[found->second].layers[p] = &layer;
    }
  }
  return rows;
}

struct Geometry {
  Scale x;
  double row = 20;       ///< height with the gap
  const char* css = "";  ///< of names
  bool specs = true;     ///< there is room for them
};

Geometry geometry(const Run& run, std::size_t rows) {
  Geometry of{.x = {}, .row = 22, .css = "name end", .specs = true};
  if (rows > 40) of.row = 17;
  if (rows > 90) of = {.x = {}, .row = 12, .css = "name end small", .specs = false};
  const auto first = static_cast<double>(run.first_step());
  of.x = {.low = first, .high = static_cast<double>(run.last_step()) + 1, .from = kLeft, .to = kRight};
  return of;
}

std::string tip_of(const Layer& layer, std::uint64_t first, std::uint64_t last) {
  std::string tip = fmt::format("{}\n{}\nsteps {} to {}", layer.choice.name, layer.choice.spec,
                                whole_text(static_cast<double>(first)), whole_text(static_cast<double>(last)));
  const double bits = layer.bits_per_element();
  if (!std::isnan(bits)) {
    tip +=
        fmt::format("\n{} bits an element, {} of {} elements", number_text(bits),
                    bytes_text(static_cast<double>(layer.choice.bytes)), whole_text(static_cast<double>(layer.count)));
  }
  if (layer.reference) tip += fmt::format("\nuniform: {}", layer.reference->spec);
  return tip;
}

/// Plans that follow each other with the same spec and colour are one cell.
void draw_row(Svg& svg, const Run& run, const Row& row, const Geometry& geometry, double y) {
  const double height = geometry.row - 2;
  const bool small = !geometry.specs;
  svg.short_text(kLeft - 8, y + height / 2 + (small ? 3.5 : 4.5), geometry.css, row.name,
                 small ? kNameLetters + 9 : kNameLetters);
  for (std::size_t p = 0; p < run.plans.size();) {
    const Layer* const layer = row.layers[p];
    std::size_t next = p + 1;
    if (layer == nullptr) {
      p = next;
      continue;
    }
    const std::string bits = bits_class(layer->bits_per_element());
    const auto is_same = [&](const Layer* other) {
      return other != nullptr && other->choice.spec == layer->choice.spec &&
             bits_class(other->bits_per_element()) == bits;
    };
    while (next < run.plans.size() && is_same(row.layers[next])) ++next;
    const std::uint64_t first = run.plans[p].step;
    const std::uint64_t end = next < run.plans.size() ? run.plans[next].step : run.last_step() + 1;
    const double left = geometry.x(static_cast<double>(first));
    const double width = std::max(geometry.x(static_cast<double>(end)) - left - 1, 1.0);
    const std::string css = fmt::format("{} f{}", bits, static_cast<int>(family_of(layer->choice.spec)));
    svg.rect(left, y, width, height, "cell " + css, tip_of(*layer, first, end - 1));
    const std::string spec = brief(layer->choice.spec);
    if (geometry.specs && static_cast<double>(characters(spec)) * kLetter + 8 <= width)
      svg.text(left + width / 2, y + height / 2 + 4, "spec " + css, spec);
    p = next;
  }
}

std::string bits_legend(const std::vector<Row>& rows) {
  constexpr std::array<std::string_view, 11> kNames{"≤ 1/32", "1/16", "1/8", "1/4", "1/2", "1",
                                                    "2",      "4",    "8",   "16",  "32"};
  std::string out = "<ul class=\"legend by-bits\"><li>bits an element:</li>";
  for (std::size_t i = 0; i < kNames.size(); ++i)
    out += fmt::format("<li><span class=\"swatch b{}\"></span>{}</li>", i, escape(kNames[i]));
  const bool some_unknown = std::any_of(rows.begin(), rows.end(), [](const Row& row) {
    return std::any_of(row.layers.begin(), row.layers.end(),
                       [](const Layer* layer) { return layer != nullptr && std::isnan(layer->bits_per_element()); });
  });
  if (some_unknown) out += "<li><span class=\"swatch unknown\"></span>not known</li>";
  return out + "</ul>\n";
}

std::string family_legend(const std::vector<Row>& rows) {
  std::array<bool, kFamilyNames.size()> used{};
  for (const Row& row : rows)
    for (const Layer* layer : row.layers)
      if (layer != nullptr) used[static_cast<std::size_t>(family_of(layer->choice.spec))] = true;
  std::string out = "<ul class=\"legend by-family\"><li>family:</li>";
  for (std::size_t i = 0; i < used.size(); ++i)
    if (used[i]) out += fmt::format("<li><span class=\"swatch f{}\"></span>{}</li>", i, escape(kFamilyNames[i]));
  return out + "</ul>\n";
}

/// Which specs the last plan has, and how many layers each.
std::string spec_list(const LoggedPlan& last) {
  std::map<std::string, std::size_t> counts;
  for (const Layer& layer : last.layers) ++counts[layer.choice.spec];
  std::vector<std::pair<std::string, std::size_t>> sorted(counts.begin(), counts.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string out = "<ul class=\"legend specs\"><li>in the last plan:</li>";
  for (const auto& [spec, count] : sorted) {
    out +=
        fmt::format("<li><span class=\"swatch f{}\"></span><code>{}</code> {}</li>", static_cast<int>(family_of(spec)),
                    escape(spec), fmt::format("{} {}", count, count == 1 ? "layer" : "layers"));
  }
  return out + "</ul>\n";
}

}  // namespace

std::string heat_map(const Run& run) {
  if (run.plans.empty())
    return nothing(
        "No plan was logged: all layers had the uniform setting throughout, or RunLog::plan() was not called.");
  const std::vector<Row> rows = rows_of(run);
  const Geometry of = geometry(run, rows.size());
  const double bottom = kTop + of.row * static_cast<double>(rows.size());
  Svg svg(
      kWidth, bottom + 44, "What each layer had over the steps",
      fmt::format("{} layers, {} plans; the table of the last plan has the numbers", rows.size(), run.plans.size()));
  svg.rect(kLeft, kTop, kRight - kLeft, bottom - kTop - 2, "before");
  for (std::size_t i = 0; i < rows.size(); ++i) draw_row(svg, run, rows[i], of, kTop + of.row * static_cast<double>(i));
  for (const double step : ticks(of.x.low, of.x.high, 8)) {
    if (step != std::floor(step) || step >= of.x.high) continue;
    svg.line(of.x(step), bottom, of.x(step), bottom + 5, "axis");
    svg.text(of.x(step), bottom + 19, "tick middle", whole_text(step));
  }
  svg.line(kLeft, bottom, kRight, bottom, "axis");
  svg.text((kLeft + kRight) / 2, bottom + 37, "unit middle", "step");
  std::string out =
      "<div class=\"heat\">\n"
      "<input type=\"radio\" name=\"colour\" id=\"colour-bits\" checked><label for=\"colour-bits\">by bits</label>\n"
      "<input type=\"radio\" name=\"colour\" id=\"colour-family\"><label for=\"colour-family\">by family</label>\n";
  out += bits_legend(rows) + family_legend(rows) + std::move(svg).finish() + spec_list(run.plans.back());
  if (run.first_step() < run.plans.front().step)
    out += fmt::format("<p class=\"note\">Before step {}, the first plan, all layers had the uniform setting.</p>\n",
                       escape(whole_text(static_cast<double>(run.plans.front().step))));
  if (run.plans_left_out > 0)
    out += fmt::format(
        "<p class=\"note\">{} plans between the first and the last ones were not kept in the log; where "
        "they were, the plan before them is drawn.</p>\n",
        run.plans_left_out);
  return out + "</div>\n";
}

}  // namespace gradwire::tools::report
