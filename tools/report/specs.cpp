#include "specs.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace gradwire::tools::report {
namespace {

/// Where `c` stands outside of parentheses, or the end.
std::size_t find_outside(std::string_view text, char c) {
  int depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == c && depth == 0) return i;
    depth += text[i] == '(' ? 1 : text[i] == ')' ? -1 : 0;
  }
  return text.size();
}

bool is_short_quantiser(std::string_view name) {
  return name.size() == 2 && name[0] == 'q' && name[1] >= '1' && name[1] <= '8';
}

std::string brief_stage(std::string_view stage) {
  const std::size_t open = stage.find('(');
  if (open == std::string_view::npos || !stage.ends_with(')')) return std::string(stage);
  const std::string_view name = stage.substr(0, open);
  std::string_view first = stage.substr(open + 1, stage.size() - open - 2);
  first = first.substr(0, find_outside(first, ','));
  const std::size_t equals = find_outside(first, '=');
  if (equals < first.size()) first = first.substr(equals + 1);
  if (name == "quantize") return fmt::format("q{}", first);
  return fmt::format("{}({})", name, brief(first));
}

}  // namespace

Family family_of(std::string_view spec) {
  const std::string_view name = spec.substr(0, spec.find_first_of("(|"));
  const auto is_one_of = [name](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (is_one_of({"none", "dense", "f16", "bf16"})) return Family::floats;
  if (is_short_quantiser(name) || is_one_of({"quantize", "rotate", "sign", "ternary", "natural", "thc"}))
    return Family::quantised;
  if (is_one_of({"f8", "mx4", "mx6", "mx8", "nvfp4"})) return Family::block_floats;
  if (is_one_of({"topk", "threshold", "randomk", "block_topk", "adaptive_threshold"})) return Family::sparse;
  if (is_one_of({"powersgd", "projection"})) return Family::low_rank;
  return Family::other;
}

std::string brief(std::string_view spec) {
  std::string out;
  while (!spec.empty()) {
    const std::size_t end = find_outside(spec, '|');
    out += brief_stage(spec.substr(0, end));
    if (end == spec.size()) break;
    out += '|';
    spec.remove_prefix(end + 1);
  }
  return out;
}

}  // namespace gradwire::tools::report
