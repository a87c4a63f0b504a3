// The plan in force: taken up, set by hand, told, saved.
#include <algorithm>

#include "base/fail.hpp"
#include "plan/figures.hpp"
#include "plan/table.hpp"
#include "train/planning/agenda.hpp"

namespace gradwire {

void PlanAgenda::adopt() {
  if (next_ != specs_) guards_.forget();  // they have seen what the plan before did
  if (adopting_) note(step_ + 1, PlanOutcome::adopted, *std::exchange(adopting_, std::nullopt));
  specs_ = next_;
  has_plan_ = true;
  if (next_plan_) take_figures(*next_plan_);
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    if (figures_[l].spec == specs_[l]) continue;  // else a guard has changed it
    figures_[l] = {layers_[l].name, specs_[l], 0, 0};
    const TableLayer* const row = row_of(l);
    if (row == nullptr) continue;
    if (const std::optional<std::size_t> place = find_candidate(*row, specs_[l])) {
      figures_[l].bytes = row->candidates[*place].bytes;
      figures_[l].error = row->candidates[*place].error;
    }
  }
}

/// Of the layers that the plan has.
void PlanAgenda::take_figures(const Plan& plan) {
  plan_ = plan;
  plan_.layers.clear();
  for (const PlanLayer& layer : plan.layers) {
    for (std::size_t l = 0; l < layers_.size(); ++l)
      if (layers_[l].name == layer.name) figures_[l] = {layer.name, specs_[l], layer.bytes, layer.error};
  }
}

void PlanAgenda::refuse(const std::string& why) { note(step_ + 1, PlanOutcome::failed, "the plan cannot run: " + why); }

PlanAgenda::Specs PlanAgenda::specs_of(const Plan& plan) const {
  (void)complete(plan);  // or a saved state that holds it could not be read
  Specs specs = specs_;
  for (const PlanLayer& layer : plan.layers) {
    const auto found = std::find_if(layers_.begin(), layers_.end(),
                                    [&](const PlannedLayer& planned) { return planned.name == layer.name; });
    require(found != layers_.end(), "plan: layer '{}' is no parameter of the hook that is compressed", layer.name);
    const std::string wanted(make_compressor(layer.spec).spec());
    std::string spec = layer.spec;
    for (const std::string& known : found->specs)
      if (make_compressor(known).spec() == wanted) spec = known;
    specs[static_cast<std::size_t>(found - layers_.begin())] = spec;
  }
  return specs;
}

void PlanAgenda::set_plan(const Plan& plan, std::uint64_t step) {
  next_ = specs_of(plan);
  next_plan_ = plan;
  adopting_.reset();
  adopt();
  asked_ = false;  // what is being solved started from the plan before
  note(step, PlanOutcome::adopted, "by hand");
}

Plan PlanAgenda::plan() const {
  Plan plan = plan_;
  plan.layers = figures_;
  plan.bytes = 0;
  plan.error = 0;
  plan.squared_error = 0;
  for (const PlanLayer& layer : figures_) {
    plan.bytes += layer.bytes;
    plan.error += layer.error;
    plan.squared_error += layer.error * layer.error;
  }
  return plan;
}

PlanningReport PlanAgenda::report() const {
  PlanningReport report = report_;
  if (on()) {
    const Planner::Times times = planner_->times();
    report.measure_us = times.measure_us;
    report.snapshot_us = times.snapshot_us;
  }
  return report;
}

PlanAgenda::Specs PlanAgenda::own_specs() const {
  Specs specs;
  for (const PlannedLayer& layer : layers_) specs.push_back(layer.specs[layer.reference]);
  return specs;
}

SavedPlan PlanAgenda::saved() const {
  SavedPlan saved;
  if (has_plan_) {
    Plan now = plan();
    now.solver_ms = 0;  // all ranks save the same, whenever they run
    now.exposed_ms = 0;
    saved.plan = to_json(now);
  }
  for (std::size_t l = 0; l < layers_.size(); ++l)
    if (!forbidden_[l].empty()) saved.forbidden[layers_[l].name] = forbidden_[l];
  return saved;
}

void PlanAgenda::restore(const std::optional<Plan>& plan, const std::map<std::string, std::string>& forbidden) {
  next_ = plan ? specs_of(*plan) : own_specs();
  next_plan_ = plan;
  plan_ = {};
  for (PlanLayer& layer : figures_) layer.bytes = 0, layer.error = 0;
  adopting_.reset();
  adopt();
  has_plan_ = plan.has_value();
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const auto found = forbidden.find(layers_[l].name);
    forbidden_[l] = found == forbidden.end() ? std::string() : found->second;
  }
  std::fill(previous_norms_.begin(), previous_norms_.end(), 0.0);
  asked_ = false;
  solved_.reset();
  if (on()) planner_->forget();
}

}  // namespace gradwire
