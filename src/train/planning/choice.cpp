#include "train/planning/choice.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/fail.hpp"
#include "plan/table.hpp"

namespace gradwire {
namespace {

/// Without what layers' guards have ruled out. "none" is always left: it has no error.
Table without_forbidden(const Table& table, std::span<const std::string> forbidden) {
  Table allowed = table;
  for (std::size_t l = 0; l < allowed.layers.size(); ++l) {
    TableLayer& layer = allowed.layers[l];
    const std::optional<std::size_t> worst = forbidden[l].empty() ? std::nullopt : find_candidate(layer, forbidden[l]);
    if (!worst) continue;
    const double least = layer.candidates[*worst].error;
    const std::string reference = layer.candidates[layer.reference].spec;
    std::erase_if(layer.candidates, [&](const Candidate& c) { return c.error >= least && c.error > 0; });
    // A reference that is ruled out is replaced by what comes next to it.
    layer.reference = 0;
    for (std::size_t c = 0; c < layer.candidates.size(); ++c) {
      if (layer.candidates[c].spec == reference) {
        layer.reference = c;
        break;
      }
      if (layer.candidates[c].error > layer.candidates[layer.reference].error) layer.reference = c;
    }
  }
  return allowed;
}

double squared_limit(const Table& table, double max_error) {
  double squares = 0;
  for (const TableLayer& layer : table.layers) squares += layer.norm * layer.norm;
  return max_error * max_error * squares;
}

/// The cheapest plan whose summed squared error is at most `limit`.
Plan cheapest_within(Table table, double limit) {
  // The policy's limit is a multiple of the references' error, which may be 0: these lose the most.
  for (TableLayer& layer : table.layers) {
    const auto worst = std::max_element(layer.candidates.begin(), layer.candidates.end(),
                                        [](const Candidate& a, const Candidate& b) { return a.error < b.error; });
    layer.reference = static_cast<std::size_t>(worst - layer.candidates.begin());
  }
  const double most = totals(table, reference_of(table)).squared_error;
  const double factor = most > 0 ? std::min(1.0, std::sqrt(limit / most) * (1 - 1e-9)) : 1;  // within, also as rounded
  return make_policy(fmt::format("budget(error={:.17g})", factor)).plan(table);
}

std::optional<Choice> find(const Table& table, std::span<const std::string> specs) {
  Choice choice;
  for (std::size_t l = 0; l < specs.size(); ++l) {
    const std::optional<std::size_t> found = find_candidate(table.layers[l], specs[l]);
    if (!found) return {};
    choice.push_back(*found);
  }
  return choice;
}

/// A plan fills its budget to the brim, and frames of chosen elements are never twice as long: by so much the current
/// plan may be over before that is a reason to change it.
constexpr double kBrim = 1.01;

/// What `plan` saves against `current` of what its policy makes small, as a share, where both keep its limit; else
/// nothing.
std::optional<double> saved_share(const Plan& plan, const Plan& current, bool saves_time) {
  const auto share = [](double now, double before) { return before > 0 ? 1 - now / before : 0.0; };
  const auto least = [&] {
    return saves_time ? share(plan.exposed_ms, current.exposed_ms)
                      : share(static_cast<double>(plan.bytes), static_cast<double>(current.bytes));
  };
  const double most = kBrim * plan.budget;
  switch (plan.limit) {
    case PlanLimit::bytes:
      if (static_cast<double>(current.bytes) > most) return {};
      return share(plan.squared_error, current.squared_error);
    case PlanLimit::time:
      if (current.exposed_ms > most) return {};
      return share(plan.squared_error, current.squared_error);
    case PlanLimit::error:
      if (current.error > most) return {};
      return least();
    case PlanLimit::squared_error:
      if (current.squared_error > most) return {};
      return least();
    case PlanLimit::none: return {};  // nothing to compare by
  }
  return {};
}

bool same_specs(const Plan& a, const Plan& b) {
  return std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(),
                    [](const PlanLayer& x, const PlanLayer& y) { return x.spec == y.spec; });
}

}  // namespace

PlanAnswer choose_plan(const Table& table, const Policy& policy, const PlanQuestion& question) {
  const Table allowed = without_forbidden(table, question.forbidden);
  PlanAnswer answer{policy.plan(allowed), false, {}};
  const double limit = question.max_error > 0 ? squared_limit(allowed, question.max_error) : 0;
  const auto over = [&](const Plan& plan) { return question.max_error > 0 && plan.squared_error > limit; };
  if (over(answer.plan)) {
    const double solver_ms = answer.plan.solver_ms;
    answer.detail = fmt::format(
        "{} would lose {:.3g} of what is sent, over the limit of {:.3g}: the cheapest within it", policy.spec(),
        std::sqrt(answer.plan.squared_error / limit) * question.max_error, question.max_error);
    answer.plan = cheapest_within(allowed, limit);
    answer.plan.solver_ms += solver_ms;
  }
  const std::optional<Choice> current = find(allowed, question.current);
  if (!current) return answer;
  Plan old = assemble(allowed, *current);
  const bool same = same_specs(old, answer.plan);
  const bool saves_time = policy.spec().find("objective=time") != std::string::npos;  // also one within another
  const std::optional<double> saved = over(old) ? std::nullopt : saved_share(answer.plan, old, saves_time);
  if (!same && (!saved || *saved >= question.hysteresis)) return answer;
  if (!same) answer.detail = fmt::format("another plan would save {:.2g} %", 100 * *saved);
  old.policy = answer.plan.policy;
  old.limit = answer.plan.limit;
  old.budget = answer.plan.budget;
  old.bound = answer.plan.bound;
  old.solver_ms = answer.plan.solver_ms;
  answer.plan = std::move(old);
  answer.kept = true;
  return answer;
}

const std::string& safer_spec(const TableLayer& layer, const std::string& spec) {
  static const std::string none = "none";
  const std::optional<std::size_t> now = find_candidate(layer, spec);
  if (!now) return none;
  const double most = layer.candidates[*now].error / 2;
  const Candidate* best = nullptr;
  for (const Candidate& candidate : layer.candidates) {
    if (candidate.error > most) continue;
    if (best == nullptr || candidate.bytes < best->bytes) best = &candidate;
  }
  return best == nullptr ? none : best->spec;
}

}  // namespace gradwire
