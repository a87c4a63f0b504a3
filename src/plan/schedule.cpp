#include "plan/schedule.hpp"

#include <algorithm>
#include <numeric>

#include "base/fail.hpp"

namespace gradwire {

bool has_ready_times(const Table& table) {
  return std::all_of(table.layers.begin(), table.layers.end(),
                     [](const TableLayer& layer) { return layer.ready_us > 0; });
}

void require_times(const Table& table, std::string_view policy) {
  for (const TableLayer& layer : table.layers) {
    require(layer.ready_us > 0,
            "policy \"{}\": layer \"{}\" has no ready_us: the table does not say when it can be sent", policy,
            layer.name);
    for (const Candidate& candidate : layer.candidates) {
      require(candidate.us > 0,
              "policy \"{}\": layer \"{}\": candidate \"{}\" has no us: the table does not say how long it takes",
              policy, layer.name, candidate.spec);
    }
  }
}

Schedule schedule_of(const Table& table) {
  Schedule schedule;
  schedule.order.resize(table.layers.size());
  std::iota(schedule.order.rbegin(), schedule.order.rend(), std::size_t{0});
  std::stable_sort(schedule.order.begin(), schedule.order.end(),
                   [&](std::size_t a, std::size_t b) { return table.layers[a].ready_us < table.layers[b].ready_us; });
  for (const std::size_t l : schedule.order) schedule.ready.push_back(table.layers[l].ready_us);
  return schedule;
}

double exposed_us(const Table& table, const Schedule& schedule, const Choice& choice) {
  double sent = 0;
  for (std::size_t place = 0; place < schedule.order.size(); ++place)
    sent = finish(sent, schedule.ready[place], chosen(table, choice, schedule.order[place]).us);
  return sent - schedule.ready.back();
}

}  // namespace gradwire
