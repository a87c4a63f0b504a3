// Accordion's rule (arXiv 2010.16248; auto_scale.py): a layer whose gradient's norm changes fast is in a critical
// regime, and is compressed less. Its other trigger, a falling learning rate, no table knows.
#include <cmath>

#include "base/fail.hpp"
#include "plan/policy.hpp"
#include "plan/table.hpp"

namespace gradwire {
namespace {

struct Settings {
  std::string spec;
  std::string low;
  std::string high;
  double eta = 0;
  Solver policy;  ///< what runs on the picks as references; empty: nothing, the picks are the plan
};

/// A norm that is not known counts as one that has changed.
bool critical(const TableLayer& layer, double eta) {
  if (layer.norm == 0 || layer.previous_norm == 0) return true;
  return std::abs(layer.norm - layer.previous_norm) >= eta * layer.previous_norm;
}

Solution solve(const Table& table, const Settings& settings) {
  bool any = false;
  for (const TableLayer& layer : table.layers) any = any || layer.norm > 0;
  require(any, "policy \"{}\": no layer has a norm", settings.spec);
  const std::vector<CandidatePair> pairs = candidate_pairs(table, settings.low, settings.high, settings.spec);
  Solution solution;
  for (std::size_t l = 0; l < pairs.size(); ++l)
    solution.choice.push_back(critical(table.layers[l], settings.eta) ? pairs[l].second : pairs[l].first);
  if (!settings.policy) return solution;
  Table picked = table;
  for (std::size_t l = 0; l < pairs.size(); ++l) picked.layers[l].reference = solution.choice[l];
  return settings.policy(picked);
}

Solver make(const Spec& spec) {
  OptionReader options(spec);
  Settings settings;
  settings.spec = spec.text;
  settings.low = options.spec("low", "");
  settings.high = options.spec("high", "");
  settings.eta = options.real("eta", 0.5, 0, 1e6);
  const std::string_view policy = options.spec("policy", "");
  options.finish();
  require(!settings.low.empty() && !settings.high.empty(),
          "policy \"{}\": which two? accordion(low=SPEC,high=SPEC), high in critical regimes", spec.text);
  if (!policy.empty()) settings.policy = make_solver(policy);
  return [settings](const Table& table) { return solve(table, settings); };
}

}  // namespace

PolicyEntry accordion_entry() {
  return {
      {"accordion", "accordion(low=q2,high=q4)",
       "low=SPEC, high=SPEC: of fidelity; eta=F: relative change of a norm from which on it is critical (0.5); "
       "policy=POLICY that then runs, with these picks as references",
       "high for layers whose gradient's norm changes fast, low for others", "Agarwal et al. 2020, arXiv 2010.16248"},
      make};
}

}  // namespace gradwire
