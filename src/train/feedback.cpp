#include "gradwire/feedback.hpp"

#include <fmt/ranges.h>

#include <iterator>

#include "base/fail.hpp"
#include "train/rules/rules.hpp"

namespace gradwire {
namespace {

const std::vector<rules::Entry>& registry() {
  static const std::vector<rules::Entry> all = [] {
    std::vector<rules::Entry> entries;
    for (std::vector<rules::Entry> some :
         {rules::residual_entries(), rules::estimate_entries(), rules::momentum_entries(), rules::adam_entries()}) {
      std::move(some.begin(), some.end(), std::back_inserter(entries));
    }
    return entries;
  }();
  return all;
}

}  // namespace

FeedbackRule::~FeedbackRule() = default;

std::unique_ptr<FeedbackRule> make_rule(std::string_view text, const RuleContext& context) {
  const Spec spec = parse_spec(text, "rule");
  std::vector<std::string_view> names;
  for (const rules::Entry& entry : registry()) {
    names.push_back(entry.info.name);
    if (entry.info.name != spec.name) continue;
    OptionReader options = entry.main_option.empty() ? OptionReader(spec) : OptionReader(spec, {entry.main_option});
    std::unique_ptr<FeedbackRule> rule = entry.make(options, context);
    options.finish();
    return rule;
  }
  fail(Errc::invalid_argument, "unknown feedback rule \"{}\": expected {}", spec.name, fmt::join(names, ", "));
}

std::vector<RuleInfo> list_rules() {
  std::vector<RuleInfo> rows;
  for (const rules::Entry& entry : registry()) rows.push_back(entry.info);
  return rows;
}

}  // namespace gradwire
