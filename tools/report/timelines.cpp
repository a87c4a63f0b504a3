#include <fmt/format.h>

#include <algorithm>

#include "markup.hpp"
#include "sections.hpp"
#include "svg.hpp"

namespace gradwire::tools::report {
namespace {

constexpr double kWidth = 1040;
constexpr double kLeft = 300;
constexpr double kRight = 940;
constexpr double kRow = 24;
constexpr std::size_t kNameLetters = 40;

std::string name_of(const Run& run, const BucketReport& bucket) {
  if (bucket.params.empty()) return "no parameters";
  const std::string& first = run.params[bucket.params.front()].name;
  const std::size_t others = bucket.params.size() - 1;
  if (others == 0) return first;
  const std::string more = fmt::format(" + {}", others);
  return shorten(first, kNameLetters - more.size()) + more;
}

std::string tip_of(const Run& run, const BucketReport& bucket) {
  constexpr std::size_t kMostNames = 12;
  std::string tip;
  for (std::size_t i = 0; i < bucket.params.size() && i < kMostNames; ++i)
    tip += fmt::format("{}{}", i == 0 ? "" : "\n", run.params[bucket.params[i]].name);
  if (bucket.params.size() > kMostNames) tip += fmt::format("\nand {} more", bucket.params.size() - kMostNames);
  return tip + fmt::format("\nlaunched at {}, done at {}\nencode {}, peers and network {}, decode {}\nsent {}",
                           time_text(bucket.launch_us), time_text(bucket.done_us), time_text(bucket.encode_us),
                           time_text(bucket.wire_us), time_text(bucket.decode_us),
                           bytes_text(static_cast<double>(bucket.wire_bytes)));
}

/// Times of a bucket lie side by side from its launch on; where they sum to more than it took, as when threads work
/// for it at once, they are scaled to fit.
void draw_bucket(Svg& svg, const Run& run, const BucketReport& bucket, const Scale& x, double y) {
  svg.short_text(kLeft - 8, y + 15, "name end", name_of(run, bucket), kNameLetters);
  const double took = bucket.done_us - bucket.launch_us;
  const double sum = bucket.encode_us + bucket.wire_us + bucket.decode_us;
  const double scale = sum > took && sum > 0 ? took / sum : 1;
  double at = bucket.launch_us;
  const auto part = [&](double us, const char* css) {
    const double end = at + us * scale;
    svg.rect(x(at), y + 4, x(end) - x(at), kRow - 10, css);
    at = end;
  };
  part(bucket.encode_us, "part s2");
  part(bucket.wire_us, "part s3");
  part(bucket.decode_us, "part s4");
  svg.rect(x(bucket.launch_us), y + 2, std::max(x(bucket.done_us) - x(bucket.launch_us), 2.0), kRow - 6, "span",
           tip_of(run, bucket));
  svg.text(x(bucket.done_us) + 8, y + 15, "value", bytes_text(static_cast<double>(bucket.wire_bytes)));
}

std::string draw(const Run& run, const Timeline& timeline) {
  if (timeline.buckets.empty()) return nothing("This step had no buckets.");
  double end = 0;
  for (const BucketReport& bucket : timeline.buckets) end = std::max(end, bucket.done_us);
  const Scale x{.low = 0, .high = end > 0 ? end : 1, .from = kLeft, .to = kRight};
  const double bottom = 6 + kRow * static_cast<double>(timeline.buckets.size());
  Svg svg(kWidth, bottom + 44, fmt::format("Buckets of step {}", timeline.step),
          fmt::format("{} buckets in the order of their launch", timeline.buckets.size()));
  for (const double us : ticks(x.low, x.high, 6)) {
    svg.line(x(us), 0, x(us), bottom, "grid");
    svg.text(x(us), bottom + 19, "tick middle", time_text(us));
  }
  for (std::size_t i = 0; i < timeline.buckets.size(); ++i)
    draw_bucket(svg, run, timeline.buckets[i], x, 4 + kRow * static_cast<double>(i));
  svg.line(kLeft, bottom, kRight, bottom, "axis");
  svg.text((kLeft + kRight) / 2, bottom + 37, "unit middle", "time since the step's first launch");
  return fmt::format("<p>Step {}: the training loop waited {} for {} buckets.</p>\n",
                     escape(whole_text(static_cast<double>(timeline.step))), time_text(timeline.exposed_us),
                     timeline.buckets.size()) +
         std::move(svg).finish();
}

}  // namespace

std::string timelines(const Run& run) {
  if (run.timelines.empty()) return nothing("No buckets were logged: the steps' reports had none.");
  std::string out =
      "<ul class=\"legend\"><li><span class=\"swatch s2\"></span>encode</li><li><span class=\"swatch s3\"></span>peers "
      "and network</li><li><span class=\"swatch s4\"></span>decode</li><li><span class=\"swatch span\"></span>from "
      "launch "
      "to done</li></ul>\n<div class=\"tabs\">\n";
  for (std::size_t i = 0; i < run.timelines.size(); ++i) {
    const bool last = i + 1 == run.timelines.size();
    out += fmt::format(
        "<input type=\"radio\" name=\"timeline\" id=\"timeline-{0}\"{1}><label for=\"timeline-{0}\">{2}</label>\n"
        "<div class=\"panel\">{3}</div>\n",
        i, last ? " checked" : "", escape(whole_text(static_cast<double>(run.timelines[i].step))),
        draw(run, run.timelines[i]));
  }
  return out +
         "</div>\n<p class=\"note\">Encoding, sending and decoding of a bucket take turns; how long each took in all "
         "is "
         "known, so they are drawn one after the other from its launch on. Timelines are kept of the first three "
         "steps, "
         "of three after each new plan, and of the last one.</p>\n";
}

}  // namespace gradwire::tools::report
