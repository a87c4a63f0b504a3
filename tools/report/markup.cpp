#include "markup.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace gradwire::tools::report {
namespace {

constexpr std::string_view kReplacement = "\uFFFD";
constexpr std::string_view kNarrowSpace = "\u202F";

bool continues(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

/// Three digits, or all of those before the point.
std::string three_digits(double value) {
  const double size = std::abs(value);
  return fmt::format("{:.{}f}", value, size >= 99.95 || size == 0 ? 0 : size >= 9.995 ? 1 : 2);
}

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      case '\n':
      case '\t': out += c; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
          out += kReplacement;
        } else {
          out += c;
        }
    }
  }
  return out;
}

std::size_t characters(std::string_view text) {
  std::size_t count = 0;
  for (const char c : text) count += continues(c) ? 0 : 1;
  return count;
}

std::string shorten(std::string_view text, std::size_t most) {
  const std::size_t count = characters(text);
  if (count <= most) return std::string(text);
  const std::size_t head = most / 6;
  const std::size_t tail = most - head - 1;
  std::size_t head_end = 0;
  std::size_t tail_begin = 0;
  std::size_t seen = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (continues(text[i])) continue;
    if (seen == head) head_end = i;
    if (seen == count - tail) tail_begin = i;
    ++seen;
  }
  return fmt::format("{}…{}", text.substr(0, head_end), tail == 0 ? "" : text.substr(tail_begin));
}

std::string number_text(double value) { return std::isnan(value) ? "-" : fmt::format("{:.4g}", value); }

std::string whole_text(double value) {
  if (std::isnan(value)) return "-";
  const std::string digits = fmt::format("{:.0f}", value);
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0 && digits[i - 1] != '-') out += kNarrowSpace;
    out += digits[i];
  }
  return out;
}

std::string bytes_text(double bytes) {
  if (std::isnan(bytes)) return "-";
  constexpr std::array kUnits{"B", "kB", "MB", "GB", "TB", "PB"};
  std::size_t unit = 0;
  while (std::abs(bytes) >= 999.5 && unit + 1 < kUnits.size()) {
    bytes /= 1000;
    ++unit;
  }
  const bool whole = unit == 0 && bytes == std::round(bytes);
  return fmt::format("{} {}", whole ? fmt::format("{:.0f}", bytes) : three_digits(bytes), kUnits[unit]);
}

std::string time_text(double us) {
  if (std::isnan(us)) return "-";
  if (std::abs(us) >= 999'500) return three_digits(us / 1e6) + " s";
  if (std::abs(us) >= 999.5) return three_digits(us / 1e3) + " ms";
  return three_digits(us) + " µs";
}

std::string percent_text(double part, double whole) {
  const double share = whole > 0 ? 100 * part / whole : std::nan("");
  return std::isnan(share) ? "-" : fmt::format("{} %", three_digits(share));
}

std::string times_text(double ratio) {
  return std::isfinite(ratio) ? fmt::format("{}×", three_digits(ratio)) : std::string("-");
}

std::string cell(std::string_view text) { return fmt::format("<td>{}</td>", escape(text)); }
std::string number_cell(std::string_view text) { return fmt::format("<td class=\"n\">{}</td>", escape(text)); }
std::string nothing(std::string_view why) { return fmt::format("<p class=\"nothing\">{}</p>\n", escape(why)); }

}  // namespace gradwire::tools::report
