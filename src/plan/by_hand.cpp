// Policies that look at names and sizes only.
#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <limits>

#include "base/fail.hpp"
#include "plan/policy.hpp"
#include "plan/table.hpp"

namespace gradwire {
namespace {

/// The candidate of this spec.
std::size_t find(const TableLayer& layer, const std::string& wanted, const std::string& policy) {
  if (const auto found = find_candidate(layer, wanted)) return *found;
  std::vector<std::string_view> specs;
  for (const Candidate& candidate : layer.candidates) specs.push_back(candidate.spec);
  fail(Errc::invalid_argument, "policy \"{}\": layer \"{}\" has no candidate \"{}\"; it has {}", policy, layer.name,
       wanted, fmt::join(specs, ", "));
}

struct Pattern {
  std::string glob;
  std::string spec;
};

/// Which spec the layers get whose names match a pattern: the first that matches, if any.
class Patterns {
 public:
  Patterns(std::string policy, std::vector<Pattern> patterns)
      : policy_(std::move(policy)), patterns_(std::move(patterns)) {}

  /// Throws for a pattern that matches no layer.
  void check(const Table& table) const {
    for (const Pattern& pattern : patterns_) {
      const bool used = std::any_of(table.layers.begin(), table.layers.end(),
                                    [&](const TableLayer& layer) { return matches(pattern, layer); });
      require(used, "policy \"{}\": no layer's name matches \"{}\"", policy_, pattern.glob);
    }
  }
  /// Null when none matches.
  [[nodiscard]] const std::string* spec_of(const TableLayer& layer) const {
    for (const Pattern& pattern : patterns_)
      if (matches(pattern, layer)) return &pattern.spec;
    return nullptr;
  }
  [[nodiscard]] const std::string& policy() const { return policy_; }

 private:
  static bool matches(const Pattern& pattern, const TableLayer& layer) {
    return ::fnmatch(pattern.glob.c_str(), layer.name.c_str(), 0) == 0;
  }

  std::string policy_;
  std::vector<Pattern> patterns_;
};

/// Takes the options that are patterns out of the spec: all that have a name and are not among `known`.
std::vector<Pattern> take_patterns(Spec& spec, std::initializer_list<std::string_view> known) {
  std::vector<Pattern> patterns;
  std::vector<SpecOption> left;
  for (const SpecOption& option : spec.options) {
    if (option.name.empty() || std::find(known.begin(), known.end(), option.name) != known.end()) {
      left.push_back(option);
    } else {
      patterns.push_back({std::string(option.name), std::string(option.value)});
    }
  }
  spec.options = left;
  return patterns;
}

/// Each layer's candidate by its pattern, or else by `otherwise(layer)`.
template <class Otherwise>
Solution by_name(const Table& table, const Patterns& patterns, Otherwise&& otherwise) {
  patterns.check(table);
  Solution solution;
  for (const TableLayer& layer : table.layers) {
    const std::string* const own = patterns.spec_of(layer);
    solution.choice.push_back(own != nullptr ? find(layer, *own, patterns.policy()) : otherwise(layer));
  }
  return solution;
}

Solver make_uniform(const Spec& spec) {
  OptionReader options(spec);
  options.finish();
  return [](const Table& table) { return Solution{reference_of(table)}; };
}

Solver make_fixed(const Spec& given) {
  Spec spec = given;
  Patterns patterns(std::string(spec.text), take_patterns(spec, {"spec"}));
  OptionReader options(spec, {"spec"});
  const std::string own(options.spec("spec", ""));
  options.finish();
  return [patterns, own](const Table& table) {
    return by_name(table, patterns, [&](const TableLayer& layer) {
      return own.empty() ? layer.reference : find(layer, own, patterns.policy());
    });
  };
}

Solver make_by_size(const Spec& given) {
  Spec spec = given;
  Patterns patterns(std::string(spec.text), take_patterns(spec, {"threshold", "small", "large"}));
  OptionReader options(spec);
  const std::uint32_t threshold = options.number("threshold", 0, 1, std::numeric_limits<std::uint32_t>::max());
  const std::string small(options.spec("small", ""));
  const std::string large(options.spec("large", ""));
  options.finish();
  require(threshold > 0 && !(small.empty() && large.empty()),
          "policy \"{}\": which sizes? by_size(threshold=ELEMS,small=SPEC,large=SPEC)", spec.text);
  return [patterns, threshold, small, large](const Table& table) {
    return by_name(table, patterns, [&](const TableLayer& layer) {
      const std::string& own = layer.count < threshold ? small : large;
      return own.empty() ? layer.reference : find(layer, own, patterns.policy());
    });
  };
}

}  // namespace

std::vector<PolicyEntry> by_hand_entries() {
  return {
      {{"uniform", "uniform", "", "each layer's reference: what the user's uniform setting gives", ""}, make_uniform},
      {{"fixed", "fixed(q4,embed*=none)",
        "spec=SPEC for all layers (the reference); GLOB=SPEC for layers of such names, the first that matches",
        "one setting, and others by the layers' names", ""},
       make_fixed},
      {{"by_size", "by_size(threshold=65536,small=none,large=q4)",
        "threshold=ELEMS; small=SPEC, large=SPEC (the reference) below it and from it on; GLOB=SPEC as in fixed",
        "by the layers' elements, and others by their names", ""},
       make_by_size},
  };
}

}  // namespace gradwire
