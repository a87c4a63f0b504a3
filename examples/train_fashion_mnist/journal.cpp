#include "journal.hpp"

#include <fmt/format.h>

namespace demo {

Journal::Journal(const Options& options, const gradwire::Communicator& comm)
    : path_(options.report),
      log_({.name = "Fashion-MNIST",
            .compressor = options.compressor,
            .policy = options.policy,
            .transport = comm.transport().info().name,
            .ranks = comm.size(),
            .rank = comm.rank(),
            .more = {{"error feedback", options.feedback},
                     {"seed", fmt::format("{}", options.seed)},
                     {"images a step", fmt::format("{}", options.batch * comm.size())}}}) {}

void Journal::step(const gradwire::StepReport& report, const gradwire::GradientHook& hook) {
  log_.step(report);
  const gradwire::PlanningReport planning = hook.planning();
  for (; events_ < planning.events.size(); ++events_) {
    const gradwire::PlanEvent& event = planning.events[events_];
    log_.event(event);
    const bool changed =
        event.outcome == gradwire::PlanOutcome::adopted || event.outcome == gradwire::PlanOutcome::guarded;
    if (!changed) continue;
    const gradwire::Table table = hook.table();
    log_.plan(event.step, hook.plan(), table.layers.empty() ? nullptr : &table);
  }
}

}  // namespace demo
