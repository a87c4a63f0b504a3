#include "tools/report_hook_run.hpp"

#include <cmath>
#include <future>
#include <random>
#include <string>
#include <vector>

namespace gradwire::test {
namespace {

constexpr int kRanks = 2;
const std::vector<std::vector<std::size_t>> kShapes{{48, 64}, {64}, {64, 96}, {96}, {200, 32}, {32, 32}};

HookOptions options() {
  HookOptions of;
  of.compressor = "q4";
  of.bucket_bytes = 16u << 10;
  of.planning = {.policy = "budget(ratio=16)",
                 .candidates = {"q2", "q3", "q6", "q8", "topk(0.02)", "powersgd(2)"},
                 .start = 4,
                 .period = 10,
                 .samples = 2,
                 .lag = 2,
                 .share = 0,
                 .hysteresis = 0};
  return of;
}

/// What docs/report.md shows: new events, and the plans that came with them.
void log_plans(RunLog& log, const GradientHook& hook, std::size_t& events) {
  const PlanningReport planning = hook.planning();
  for (; events < planning.events.size(); ++events) {
    const PlanEvent& event = planning.events[events];
    log.event(event);
    if (event.outcome != PlanOutcome::adopted && event.outcome != PlanOutcome::guarded) continue;
    const Table table = hook.table();
    log.plan(event.step, hook.plan(), table.layers.empty() ? nullptr : &table);
  }
}

RunLog train(const Communicator& comm, std::uint64_t steps) {
  std::vector<ParamInfo> params;
  std::vector<std::vector<float>> gradients;
  for (std::size_t p = 0; p < kShapes.size(); ++p) {
    std::size_t count = 1;
    for (const std::size_t extent : kShapes[p]) count *= extent;
    gradients.emplace_back(count);
    params.push_back({.id = ParamId{static_cast<std::uint32_t>(p)},
                      .name = "layer" + std::to_string(p) + (kShapes[p].size() > 1 ? ".weight" : ".bias"),
                      .shape = kShapes[p]});
  }
  RunLog log({.name = "trained with a hook",
              .compressor = options().compressor,
              .policy = options().planning.policy,
              .transport = "local",
              .ranks = comm.size(),
              .rank = comm.rank()});
  GradientHook hook(comm, params, options());
  std::mt19937 random(static_cast<unsigned>(comm.rank()));
  std::normal_distribution<double> normal;
  std::size_t events = 0;
  for (std::uint64_t step = 1; step <= steps; ++step) {
    for (std::size_t p = kShapes.size(); p-- > 0;) {
      // Every other layer's gradients have long tails, longer as training goes on.
      const double tail = p % 2 == 0 ? 0.05 * static_cast<double>(step) : 0;
      for (float& value : gradients[p]) {
        const double z = normal(random);
        value = static_cast<float>(z * (1 + tail * z * z));
      }
      hook.ready(params[p].id, {gradients[p].data(), gradients[p].size()});
    }
    hook.finish_step().wait();
    log.step(hook.report());
    log_plans(log, hook, events);
    log.accuracy(step, 1 - std::exp(-static_cast<double>(step) / 20));
  }
  return log;
}

}  // namespace

RunLog train_with_hook(std::uint64_t steps) {
  const std::vector<Communicator> comms = make_local(kRanks);
  std::future<RunLog> other = std::async(std::launch::async, [&] { return train(comms[1], steps); });
  RunLog log = train(comms[0], steps);
  other.get();
  return log;
}

}  // namespace gradwire::test
