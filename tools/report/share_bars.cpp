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
constexpr double kLeft = 252;
constexpr double kRight = 860;
constexpr double kRow = 22;
constexpr std::size_t kMostRows = 40;
constexpr std::size_t kNameLetters = 32;

struct Bar {
  std::string name;
  std::string tip;
  double bytes = 0;
  double reference = kNone;
  std::string css;
};

/// The largest first; what is beyond kMostRows is one bar.
std::vector<Bar> bars_of(const LoggedPlan& plan) {
  std::vector<const Layer*> sorted;
  for (const Layer& layer : plan.layers) sorted.push_back(&layer);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Layer* a, const Layer* b) { return a->choice.bytes > b->choice.bytes; });
  std::vector<Bar> bars;
  const std::size_t alone = sorted.size() <= kMostRows ? sorted.size() : kMostRows - 1;
  for (std::size_t i = 0; i < alone; ++i) {
    const Layer& layer = *sorted[i];
    const double reference = layer.reference ? static_cast<double>(layer.reference->bytes) : kNone;
    std::string tip = fmt::format("{}\n{}: {}", layer.choice.name, layer.choice.spec,
                                  bytes_text(static_cast<double>(layer.choice.bytes)));
    if (layer.reference) tip += fmt::format("\nuniform, {}: {}", layer.reference->spec, bytes_text(reference));
    bars.push_back({layer.choice.name, std::move(tip), static_cast<double>(layer.choice.bytes), reference,
                    fmt::format("f{}", static_cast<int>(family_of(layer.choice.spec)))});
  }
  if (alone < sorted.size()) {
    Bar rest{fmt::format("{} smaller layers", sorted.size() - alone), "", 0, 0, "rest"};
    for (std::size_t i = alone; i < sorted.size(); ++i) {
      rest.bytes += static_cast<double>(sorted[i]->choice.bytes);
      rest.reference += sorted[i]->reference ? static_cast<double>(sorted[i]->reference->bytes) : kNone;
    }
    rest.tip = fmt::format("{}: {}\nuniform: {}", rest.name, bytes_text(rest.bytes), bytes_text(rest.reference));
    bars.push_back(std::move(rest));
  }
  return bars;
}

}  // namespace

std::string share_bars(const Run& run) {
  if (run.plans.empty()) return nothing("No plan was logged, so the bytes of single layers are not known.");
  const LoggedPlan& plan = run.plans.back();
  if (plan.plan.bytes == 0) return nothing("Nobody measured what the layers of the last plan cost.");
  const std::vector<Bar> bars = bars_of(plan);
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
  return std::move(svg).finish();
}

}  // namespace gradwire::tools::report
