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

SpecOption parse_option(std::string_view text, std::string_view spec) {
  const std::size_t equals = text.find('=');
  require(equals != std::string_view::npos, "compressor \"{}\": \"{}\" is no option; options are name=value", spec,
          text);
  const SpecOption option{text.substr(0, equals), text.substr(equals + 1)};
  require(is_word(option.name), "compressor \"{}\": \"{}\" has no valid option name before '='", spec, text);
  require(is_word(option.value), "compressor \"{}\": option {} has the malformed value \"{}\"", spec, option.name,
          option.value);
  return option;
}

}  // namespace

Spec parse_spec(std::string_view text) {
  Spec spec{text, text.substr(0, text.find('(')), {}};
  require(is_word(spec.name), "compressor \"{}\": no valid name; a spec is name or name(option=value,...)", text);
  if (spec.name.size() == text.size()) return spec;

  const std::size_t close = text.find(')');
  require(close != std::string_view::npos, "compressor \"{}\": the closing parenthesis is missing", text);
  require(close + 1 == text.size(), "compressor \"{}\": \"{}\" follows the closing parenthesis", text,
          text.substr(close + 1));
  std::string_view rest = text.substr(spec.name.size() + 1, close - spec.name.size() - 1);
  for (bool more = !rest.empty(); more;) {
    const std::size_t comma = rest.find(',');
    const SpecOption option = parse_option(rest.substr(0, comma), text);
    for (const SpecOption& other : spec.options)
      require(other.name != option.name, "compressor \"{}\": option {} is given twice", text, option.name);
    spec.options.push_back(option);
    more = comma != std::string_view::npos;
    if (more) rest.remove_prefix(comma + 1);
  }
  return spec;
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
  require(good && value >= low && value <= high && value % step == 0,
          "compressor \"{}\": option {} is {}; accepted: {}", spec_.text, name, text, accepted);
  return value;
}

std::size_t OptionReader::choice(std::string_view name, std::size_t fallback,
                                 std::initializer_list<std::string_view> words) {
  const std::string_view text = take(name);
  if (text.data() == nullptr) return fallback;
  const auto* const found = std::find(words.begin(), words.end(), text);
  require(found != words.end(), "compressor \"{}\": option {} is {}; accepted: {}", spec_.text, name, text,
          fmt::join(words, ", "));
  return static_cast<std::size_t>(found - words.begin());
}

void OptionReader::finish() const {
  if (left_.empty()) return;
  require(!known_.empty(), "compressor \"{}\": {} takes no options", spec_.text, spec_.name);
  fail(Errc::invalid_argument, "compressor \"{}\": unknown option {}; accepted: {}", spec_.text, left_.front().name,
       fmt::join(known_, ", "));
}

}  // namespace gradwire
