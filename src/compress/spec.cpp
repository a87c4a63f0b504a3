#include "compress/spec.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <string>

#include "base/fail.hpp"

namespace gradwire {
namespace {

bool is_word(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
           c == '-';
  });
}

/// Whether an option can have this name: a word, or a pattern of them.
bool is_option_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return is_word({&c, 1}) || c == '*' || c == '?' || c == '/';
  });
}

/// Place of the first `wanted` outside parentheses, or npos.
std::size_t find_outside(std::string_view text, char wanted) {
  int depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (depth == 0 && text[i] == wanted) return i;
    depth += text[i] == '(' ? 1 : text[i] == ')' ? -1 : 0;
  }
  return std::string_view::npos;
}

/// Whether a value can be a spec, as far as its characters go.
bool is_value(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return is_word({&c, 1}) || c == '(' || c == ')' || c == ',' || c == '=' || c == '|';
  });
}

SpecOption parse_option(std::string_view text, const Spec& spec) {
  const std::size_t equals = find_outside(text, '=');
  const bool named = equals != std::string_view::npos;
  const bool after_named = !spec.options.empty() && !spec.options.back().name.empty();
  require(named || (!text.empty() && !after_named), "{} \"{}\": \"{}\" is no option; options are name=value", spec.kind,
          spec.text, text);
  const SpecOption option{named ? text.substr(0, equals) : std::string_view(), named ? text.substr(equals + 1) : text};
  require(!named || is_option_name(option.name), "{} \"{}\": \"{}\" has no valid option name before '='", spec.kind,
          spec.text, text);
  require(is_value(option.value), "{} \"{}\": option {} has the malformed value \"{}\"", spec.kind, spec.text,
          named ? option.name : "without a name", option.value);
  return option;
}

}  // namespace

std::size_t nesting_depth(std::string_view text) noexcept {
  std::size_t depth = 0;
  std::size_t deepest = 0;
  for (const char c : text) {
    if (c == '(') deepest = std::max(deepest, ++depth);
    if (c == ')' && depth != 0) --depth;
  }
  return deepest;
}

std::vector<std::string_view> split_stages(std::string_view text, char separator) {
  std::vector<std::string_view> stages;
  for (;;) {
    const std::size_t place = find_outside(text, separator);
    if (place == std::string_view::npos) break;
    stages.push_back(text.substr(0, place));
    text.remove_prefix(place + 1);
  }
  stages.push_back(text);
  return stages;
}

Spec parse_spec(std::string_view text, std::string_view kind) {
  Spec spec{text, text.substr(0, text.find('(')), {}, kind};
  require(is_word(spec.name), "{} \"{}\": no valid name; a spec is name or name(option=value,...)", spec.kind, text);
  if (spec.name.size() == text.size()) return spec;

  const std::string_view inside = text.substr(spec.name.size() + 1);
  const std::size_t close = find_outside(inside, ')');
  require(close != std::string_view::npos, "{} \"{}\": the closing parenthesis is missing", spec.kind, text);
  require(close + 1 == inside.size(), "{} \"{}\": \"{}\" follows the closing parenthesis", spec.kind, text,
          inside.substr(close + 1));
  std::string_view rest = inside.substr(0, close);
  for (bool more = !rest.empty(); more;) {
    const std::size_t comma = find_outside(rest, ',');
    const SpecOption option = parse_option(rest.substr(0, comma), spec);
    for (const SpecOption& other : spec.options)
      require(option.name.empty() || other.name != option.name, "{} \"{}\": option {} is given twice", spec.kind, text,
              option.name);
    spec.options.push_back(option);
    more = comma != std::string_view::npos;
    if (more) rest.remove_prefix(comma + 1);
  }
  return spec;
}

OptionReader::OptionReader(const Spec& spec, std::initializer_list<std::string_view> unnamed)
    : spec_(spec), left_(spec.options) {
  const auto* next = unnamed.begin();
  for (SpecOption& option : left_) {
    if (!option.name.empty()) break;
    require(next != unnamed.end(), "{} \"{}\": \"{}\" is no option; options are name=value", spec.kind, spec.text,
            option.value);
    option.name = *next++;
    const auto same = [&](const SpecOption& other) { return other.name == option.name; };
    require(std::count_if(left_.begin(), left_.end(), same) == 1, "{} \"{}\": option {} is given twice", spec.kind,
            spec.text, option.name);
  }
}

std::string_view OptionReader::take(std::string_view name) {
  known_.push_back(name);
  const auto found = std::find_if(left_.begin(), left_.end(), [&](const SpecOption& o) { return o.name == name; });
  if (found == left_.end()) return {};
  const std::string_view value = found->value;
  left_.erase(found);
  return value;
}

std::uint32_t OptionReader::number(std::string_view name, std::uint32_t fallback, std::uint32_t low, std::uint32_t high,
                                   std::uint32_t step) {
  const std::string_view text = take(name);
  if (text.data() == nullptr) return fallback;
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool good = error == std::errc{} && end == text.data() + text.size();
  const std::string accepted =
      step == 1 ? fmt::format("{}..{}", low, high) : fmt::format("multiples of {} in {}..{}", step, low, high);
  require(good && value >= low && value <= high && value % step == 0, "{} \"{}\": option {} is {}; accepted: {}",
          spec_.kind, spec_.text, name, text, accepted);
  return value;
}

double OptionReader::real(std::string_view name, double fallback, double low, double high) {
  const std::string_view text = take(name);
  if (text.data() == nullptr) return fallback;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool good = error == std::errc{} && end == text.data() + text.size();
  require(good && value >= low && value <= high, "{} \"{}\": option {} is {}; accepted: {}..{}", spec_.kind, spec_.text,
          name, text, low, high);
  return value + 0.0;  // -0 is 0
}

std::string_view OptionReader::spec(std::string_view name, std::string_view fallback) {
  const std::string_view text = take(name);
  return text.data() == nullptr ? fallback : text;
}

std::size_t OptionReader::choice(std::string_view name, std::size_t fallback,
                                 std::initializer_list<std::string_view> words) {
  const std::string_view text = take(name);
  if (text.data() == nullptr) return fallback;
  const auto* const found = std::find(words.begin(), words.end(), text);
  require(found != words.end(), "{} \"{}\": option {} is {}; accepted: {}", spec_.kind, spec_.text, name, text,
          fmt::join(words, ", "));
  return static_cast<std::size_t>(found - words.begin());
}

void OptionReader::finish() const {
  if (left_.empty()) return;
  require(!known_.empty(), "{} \"{}\": {} takes no options", spec_.kind, spec_.text, spec_.name);
  fail(Errc::invalid_argument, "{} \"{}\": unknown option {}; accepted: {}", spec_.kind, spec_.text, left_.front().name,
       fmt::join(known_, ", "));
}

}  // namespace gradwire
