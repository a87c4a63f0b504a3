#include "plan/time_budget.hpp"

#include <algorithm>
#include <utility>

#include "base/fail.hpp"
#include "plan/nested.hpp"
#include "plan/send_order.hpp"

namespace gradwire {
namespace {

/// Of each layer the option that takes the least time.
Choice shortest(const Table& table) {
  Choice choice;
  for (const TableLayer& layer : table.layers) {
    const auto least = std::min_element(layer.candidates.begin(), layer.candidates.end(),
                                        [](const Candidate& a, const Candidate& b) { return a.us < b.us; });
    choice.push_back(static_cast<std::size_t>(least - layer.candidates.begin()));
  }
  return choice;
}

}  // namespace

Solution solve_time_budget(const Table& table, double ms, const std::string& policy) {
  require_times(table, policy);
  const SendOrder send_order = send_order_of(table);
  const auto exposed_ms = [&](const Choice& choice) { return exposed_us(table, send_order, choice) / 1000; };
  const Choice least = shortest(table);
  require(exposed_ms(least) <= ms, "policy \"{}\": no plan: at least {} ms are exposed, over the budget of {} ms",
          policy, exposed_ms(least), ms);

  // the problem has the layers as they are sent
  const auto in_table_order = [&](const Choice& sent) {
    Choice choice(sent.size());
    for (std::size_t place = 0; place < sent.size(); ++place) choice[send_order.order[place]] = sent[place];
    return choice;
  };
  Nested problem{{}, send_order.ready, send_order.ready.back() + ms * 1000, [&](const Choice& sent) {
                   return exposed_ms(in_table_order(sent)) <= ms;
                 }};
  Choice sent;
  for (const std::size_t l : send_order.order) {
    sent.push_back(least[l]);
    std::vector<KnapsackOption>& options = problem.layers.emplace_back();
    for (const Candidate& candidate : table.layers[l].candidates)
      options.push_back({candidate.us, candidate.error * candidate.error});
  }
  const double bound = improve(problem, sent);
  Solution solution{in_table_order(sent), PlanLimit::time, ms};
  const Choice reference = reference_of(table);
  const auto squares = [&](const Choice& choice) { return totals(table, choice).squared_error; };
  if (exposed_ms(reference) <= ms && squares(reference) < squares(solution.choice)) solution.choice = reference;
  solution.bound = std::min(bound, squares(solution.choice));
  return solution;
}

}  // namespace gradwire
