#include "specs.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "compress/spec.hpp"

namespace gradwire::tools::report {
namespace {

constexpr std::size_t kMaxNesting = 16;  // as make_compressor

bool is_short_quantiser(std::string_view name) {
  return name.size() == 2 && name[0] == 'q' && name[1] >= '1' && name[1] <= '8';
}

std::string brief_stage(std::string_view stage) {
  const std::size_t open = stage.find('(');
  if (open == std::string_view::npos || !stage.ends_with(')')) return std::string(stage);
  const std::string_view name = stage.substr(0, open);
  std::string_view first = stage.substr(open + 1, stage.size() - open - 2);
  first = split_stages(first, ',').front();
  const std::string_view key = split_stages(first, '=').front();
  if (key.size() < first.size()) first.remove_prefix(key.size() + 1);
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
  if (nesting_depth(spec) > kMaxNesting) return std::string(spec);
  std::vector<std::string> stages;
  for (const std::string_view stage : split_stages(spec)) stages.push_back(brief_stage(stage));
  return fmt::format("{}", fmt::join(stages, "|"));
}

}  // namespace gradwire::tools::report
