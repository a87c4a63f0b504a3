#include "plan/send_order.hpp"

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

SendOrder send_order_of(const Table& table) {
  SendOrder send_order;
  send_order.order.resize(table.layers.size());
  std::iota(send_order.order.rbegin(), send_order.order.rend(), std::size_t{0});
  std::stable_sort(send_order.order.begin(), send_order.order.end(),
                   [&](std::size_t a, std::size_t b) { return table.layers[a].ready_us < table.layers[b].ready_us; });
  for (const std::size_t l : send_order.order) send_order.ready.push_back(table.layers[l].ready_us);
  return send_order;
}

double exposed_us(const Table& table, const SendOrder& send_order, const Choice& choice) {
  double sent = 0;
  for (std::size_t place = 0; place < send_order.order.size(); ++place)
    sent = finish(sent, send_order.ready[place], chosen(table, choice, send_order.order[place]).us);
  return sent - send_order.ready.back();
}

}  // namespace gradwire
