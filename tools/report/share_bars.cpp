#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "markup.hpp"
#include "sections.hpp"
#include "specs.hpp"
#include "svg.hpp"

namespace gradwire::tools::report {
namespace {

constexpr double kWidth = 1040;
constexpr double kLeft = 300;
constexpr double kRight = 860;
constexpr double kRow = 22;
constexpr std::size_t kMostRows = 40;
constexpr std::size_t kNameLetters = 40;

struct Bar {
  std::string name;
  std::string tip;
  double bytes = 0;
  double reference = kNone;
  std::string css;
};

/// Largest first.
std::vector<const Layer*> sorted_by_bytes(const LoggedPlan& plan) {
  std::vector<const Layer*> sorted;
  for (const Layer& layer : plan.layers) sorted.push_back(&layer);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Layer* a, const Layer* b) { return a->choice.bytes > b->choice.bytes; });
  return sorted;
}

double bytes_of(const PlanLayer& layer) { return static_cast<double>(layer.bytes); }

Bar bar_of(const Layer& layer) {
  Bar bar{.name = layer.choice.name,
          .tip = fmt::format("{}\n{}: {}", layer.choice.name, layer.choice.spec, bytes_text(bytes_of(layer.choice))),
          .bytes = bytes_of(layer.choice),
          .reference = layer.reference ? bytes_of(*layer.reference) : kNone,
          .css = fmt::format("f{}", static_cast<int>(family_of(layer.choice.spec)))};
  if (layer.reference) bar.tip += fmt::format("\nuniform, {}: {}", layer.reference->spec, bytes_text(bar.reference));
  return bar;
}

/// Those that have no bar.
std::string rest_of(const std::vector<const Layer*>& sorted, const LoggedPlan& plan) {
  double bytes = 0;
  double reference = 0;
  for (std::size_t i = kMostRows; i < sorted.size(); ++i) {
    bytes += bytes_of(sorted[i]->choice);
    reference += sorted[i]->reference ? bytes_of(*sorted[i]->reference) : kNone;
  }
  return fmt::format(
      "<p class=\"note\">The other {} layers are smaller: {} together, {} of all; under the uniform "
      "setting {}. The table at the end has them.</p>\n",
      sorted.size() - kMostRows, bytes_text(bytes), percent_text(bytes, plan.bytes), bytes_text(reference));
}

}  // namespace

std::string share_bars(const Run& run) {
  if (run.plans.empty()) return nothing("No plan was logged, so the bytes of single layers are not known.");
  const LoggedPlan& plan = run.plans.back();
  if (plan.plan.bytes == 0) return nothing("Nobody measured what the layers of the last plan cost.");
  const std::vector<const Layer*> sorted = sorted_by_bytes(plan);
  std::vector<Bar> bars;
  for (std::size_t i = 0; i < sorted.size() && i < kMostRows; ++i) bars.push_back(bar_of(*sorted[i]));
  double most = 0;
  for (const Bar& bar : bars) most = std::max({most, bar.bytes, std::isnan(bar.reference) ? 0 : bar.reference});
  const Scale x{.low = 0, .high = most, .from = kLeft, .to = kRight};
  const double bottom = 6 + kRow * static_cast<double>(bars.size());
  Svg svg(kWidth, bottom + 44, "Bytes of each layer in the last plan",
          "sorted; a tick says what the uniform setting would cost; the table of the last plan has the numbers");
  for (const double value : ticks(0, most, 6)) {
    svg.line(x(value), 0, x(value), bottom, "grid");
    svg.text(x(value), bottom + 19, "tick middle", bytes_text(value));
  }
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const Bar& bar = bars[i];
    const double y = 4 + kRow * static_cast<double>(i);
    svg.short_text(kLeft - 8, y + 14, "name end", bar.name, kNameLetters);
    svg.rect(kLeft, y + 2, x(bar.bytes) - kLeft, kRow - 6, "bar " + bar.css, bar.tip);
    double end = x(bar.bytes);
    if (!std::isnan(bar.reference)) {
      svg.line(x(bar.reference), y, x(bar.reference), y + kRow - 2, "reference");
      end = std::max(end, x(bar.reference));
    }
    svg.text(end + 8, y + 14, "value",
             fmt::format("{}, {}", bytes_text(bar.bytes), percent_text(bar.bytes, plan.bytes)));
  }
  svg.line(kLeft, bottom, kRight, bottom, "axis");
  svg.text((kLeft + kRight) / 2, bottom + 37, "unit middle", "bytes");
  std::string out = std::move(svg).finish();
  if (sorted.size() > kMostRows) out += rest_of(sorted, plan);
  return out;
}

}  // namespace gradwire::tools::report
