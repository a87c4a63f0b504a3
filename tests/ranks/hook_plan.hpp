#pragma once
#include <string>
#include <utility>
#include <vector>

#include "ranks/hook_state.hpp"

namespace gradwire::test {

// The toy model's layers that are not small or one-dimensional.
inline const std::vector<std::string> kLayers{"layer0.weight", "layer2.weight", "layer4.weight"};

inline Plan plan_of(const std::vector<std::pair<std::string, std::string>>& specs) {
  Plan plan;
  for (const auto& [name, spec] : specs) plan.layers.push_back({name, spec, 0, 0});
  return plan;
}

inline Plan same_for_all(const std::string& spec) {
  return plan_of({{kLayers[0], spec}, {kLayers[1], spec}, {kLayers[2], spec}});
}

/// Windows of 8 steps from step 2 on: measured are steps 5 and 7, summed 9, compared 11, so plans hold from 12, 20, ...
inline HookOptions planning_options(const Communicator& comm, const std::string& policy) {
  HookOptions options = toy_options(comm, "q4", "ef");
  options.planning.policy = policy;
  options.planning.candidates = {"q2", "q3", "q6", "q8", "topk(0.01)", "topk(0.1)", "powersgd(1)", "powersgd(4)"};
  options.planning.start = 2;
  options.planning.period = 8;
  options.planning.samples = 2;
  options.planning.lag = 2;
  options.planning.share = 0;
  return options;
}

inline std::string spec_of(const Plan& plan, const std::string& name) {
  for (const PlanLayer& layer : plan.layers)
    if (layer.name == name) return layer.spec;
  return "no such layer";
}

inline std::vector<PlanOutcome> outcomes(const GradientHook& hook) {
  std::vector<PlanOutcome> all;
  for (const PlanEvent& event : hook.planning().events) all.push_back(event.outcome);
  return all;
}

inline void expect_same_on_all_ranks(const Communicator& comm, const GradientHook& hook) {
  Plan plan = hook.plan();
  plan.solver_ms = 0;  // of each rank's own
  std::string events;
  for (const PlanEvent& event : hook.planning().events)
    events += fmt::format("{} {} {}\n", event.step, name(event.outcome), event.detail);
  const std::vector<Agreement> entries{{"the plan", to_json(plan)},
                                       {"the table", hook.table().layers.empty() ? "" : to_json(hook.table())},
                                       {"events", events}};
  EXPECT_NO_THROW(comm.agree(entries, patience()));
}

/// Each step's update is added up, and so is what it should have been.
class Ledger {
 public:
  explicit Ledger(ToyModel& model) : model_(model) {
    for (const std::vector<float>& weights : model.weights) {
      sent_.emplace_back(weights.size());
      meant_.emplace_back(weights.size());
    }
  }
  void step(GradientHook& hook, unsigned number) {
    for (std::size_t p = 0; p < sent_.size(); ++p) {
      for (std::size_t i = 0; i < sent_[p].size(); ++i)
        meant_[p][i] += static_cast<double>(model_.weights[p][i]) - static_cast<double>(model_.optimum(p, i));
    }
    wait(model_.step(hook, number));
    for (std::size_t p = 0; p < sent_.size(); ++p) {
      for (std::size_t i = 0; i < sent_[p].size(); ++i) sent_[p][i] += static_cast<double>(model_.gradients[p][i]);
    }
    model_.descend(0.1F);
  }
  void expect_settled() const {
    for (std::size_t p = 0; p < sent_.size(); ++p) {
      for (std::size_t i = 0; i < sent_[p].size(); ++i) ASSERT_NEAR(sent_[p][i], meant_[p][i], 2e-4) << p << ' ' << i;
    }
  }

 private:
  ToyModel& model_;
  std::vector<std::vector<double>> sent_;
  std::vector<std::vector<double>> meant_;
};

}  // namespace gradwire::test
