#include "page.hpp"

#include <map>
#include <string_view>

#include "base/fail.hpp"
#include "markup.hpp"
#include "sections.hpp"
#include "template.hpp"

namespace gradwire::tools::report {
namespace {

/// One pass, so that nothing in a part is taken for a place.
std::string fill(std::string_view text, const std::map<std::string_view, std::string>& parts) {
  std::string out;
  for (;;) {
    const std::size_t open = text.find("{{");
    out += text.substr(0, open);
    if (open == std::string_view::npos) return out;
    const std::size_t close = text.find("}}", open);
    const auto found = parts.find(text.substr(open + 2, close - open - 2));
    if (found == parts.end()) fail(Errc::internal, "the template of the report has a place that nobody fills");
    out += found->second;
    text.remove_prefix(close + 2);
  }
}

}  // namespace

std::string page(const Run& run) {
  return fill(page_template(), {{"title", escape(run.facts.name.empty() ? "Run" : run.facts.name)},
                                {"heading", heading(run)},
                                {"heat_map", heat_map(run)},
                                {"budget", budget_charts(run)},
                                {"bytes", bytes_chart(run)},
                                {"share", share_bars(run)},
                                {"curves", curve_charts(run)},
                                {"times", times_chart(run)},
                                {"timelines", timelines(run)},
                                {"events", events_table(run)},
                                {"plans", plans_table(run)},
                                {"layers", layers_table(run)}});
}

}  // namespace gradwire::tools::report
