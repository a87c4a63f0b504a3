#include "arguments.hpp"

#include <boost/program_options/parsers.hpp>
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <utility>

#include "compress/spec.hpp"

#include "gradwire/compressor.hpp"
#include "gradwire/error.hpp"

namespace gradwire::tools {
namespace {

namespace po = boost::program_options;

template <class... Args>
[[noreturn]] void usage(fmt::format_string<Args...> format, Args&&... args) {
  throw UsageError(fmt::format(format, std::forward<Args>(args)...));
}

template <class T>
bool read_number(std::string_view text, T& value) {
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc{} && stop == end;
}

bool means(const std::string& spec, const std::string& canonical) {
  try {
    return make_compressor(spec).spec() == canonical;
  } catch (const Error&) {
    return false;  // one option may need another
  }
}

/// A spec without the options that are as they would be by themselves: canonical ones are as long as they can be.
std::string shorten(const std::string& canonical) {
  std::string spec = canonical;
  std::size_t end = spec.size();  // of the option looked at
  int depth = 0;
  for (std::size_t i = spec.size(); i-- > 0;) {
    const char c = spec[i];
    if (c == ')' && depth++ == 0) end = i;
    if (c == '(') --depth;
    const bool first = c == '(' && depth == 0;
    if (!first && !(c == ',' && depth == 1)) continue;
    const bool last = spec[end] == ')';
    std::string without = spec;
    if (first && last) {
      without.erase(i, end + 1 - i);
    } else {
      without.erase(first ? i + 1 : i, end - i);
    }
    if (means(without, canonical)) spec = std::move(without);
    end = i;
  }
  return spec;
}

/// One of each row of list_compressors(), and two codings in a row. Of gaussian numbers, as `perf` has them, the
/// default threshold would keep nearly all.
std::vector<std::string> one_of_each() {
  std::vector<std::string> specs;
  for (const CompressorInfo& row : list_compressors())
    specs.push_back(row.name == "threshold" ? "threshold(2)" : shorten(row.example));
  specs.insert(specs.end(), {"topk(0.01)|q4", "q2|zstd"});
  return specs;
}

}  // namespace

po::variables_map parse_arguments(const po::options_description& options, const Arguments& arguments) {
  namespace style = po::command_line_style;
  po::variables_map values;
  try {
    const po::parsed_options parsed =
        po::command_line_parser(arguments).options(options).style(style::unix_style & ~style::allow_guessing).run();
    for (const po::option& option : parsed.options) {
      if (option.string_key.empty()) usage("unexpected argument '{}': every value follows a flag", option.value.at(0));
    }
    po::store(parsed, values);
    po::notify(values);
  } catch (const po::error& error) {
    usage("{}", error.what());
  }
  return values;
}

std::uint64_t parse_whole(std::string_view flag, std::string_view text, std::uint64_t low, std::uint64_t high) {
  std::uint64_t value = 0;
  if (!read_number(text, value) || value < low || value > high) {
    usage("{} {}: expected a whole number from {} to {}", flag, text, low, high);
  }
  return value;
}

std::size_t parse_bytes(std::string_view flag, std::string_view text) {
  int shift = 0;
  std::string_view digits = text;
  if (!text.empty()) {
    switch (text.back()) {
      case 'k':
      case 'K': shift = 10; break;
      case 'm':
      case 'M': shift = 20; break;
      case 'g':
      case 'G': shift = 30; break;
      default: break;
    }
    if (shift > 0) digits.remove_suffix(1);
  }
  std::size_t value = 0;
  if (!read_number(digits, value) || value > (std::size_t{1} << 50) >> shift) {
    usage("{} {}: expected bytes as a whole number, with K, M or G for powers of two", flag, text);
  }
  return value << shift;
}

std::chrono::milliseconds parse_seconds(std::string_view flag, std::string_view text) {
  double seconds = 0;
  if (!read_number(text, seconds) || !(seconds >= 0 && seconds <= 86'400)) {
    usage("{} {}: expected seconds from 0 to 86400", flag, text);
  }
  const std::int64_t rounded = std::llround(seconds * 1000);
  if (seconds > 0 && rounded == 0) usage("{} {}: less than a millisecond", flag, text);
  return std::chrono::milliseconds(rounded);
}

DType parse_dtype(std::string_view flag, std::string_view text) {
  if (text == "f32" || text == "float") return DType::f32;
  if (text == "f16" || text == "half") return DType::f16;
  if (text == "bf16" || text == "bfloat16") return DType::bf16;
  usage("{} {}: expected f32, f16 or bf16", flag, text);
}

std::vector<std::string> parse_specs(std::string_view flag, std::string_view text) {
  std::vector<std::string> specs;
  const auto add = [&](const std::string& spec) {
    if (spec.empty()) usage("{} {}: an empty spec; expected specs separated by commas, or 'all'", flag, text);
    if (spec != "all") return specs.push_back(spec);
    for (std::string& each : one_of_each()) specs.push_back(std::move(each));
  };
  for (const std::string_view spec : split_stages(text, ',')) add(std::string(spec));
  return specs;
}

}  // namespace gradwire::tools
