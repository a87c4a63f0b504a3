#pragma once
#include <string_view>
#include <vector>

#include "plan/table.hpp"

namespace gradwire {

/// When layers are sent, by the model of docs/adr/0008: one after another in the order in which backward has their
/// gradients (of several at once the later of the table first). Each begins when it is ready and the one before has
/// been sent, and takes its candidate's time.
struct SendOrder {
  std::vector<std::size_t> order;  ///< layers, as they are sent
  std::vector<double> ready;       ///< of each, in this order: rises. Microseconds, as all times here
};

/// Whether all layers say when they are ready.
[[nodiscard]] bool has_ready_times(const Table& table);
/// Throws Errc::invalid_argument, naming the policy and what is missing, where the table lacks times.
void require_times(const Table& table, std::string_view policy);
/// Of a table that has_ready_times().
[[nodiscard]] SendOrder send_order_of(const Table& table);

/// When a layer that is ready at `ready` and takes `us` has been sent, with `before` for the one before.
[[nodiscard]] inline double finish(double before, double ready, double us) {
  return (before < ready ? ready : before) + us;
}

/// For how long after the last layer is ready it is still being sent.
[[nodiscard]] double exposed_us(const Table& table, const SendOrder& send_order, const Choice& choice);

}  // namespace gradwire
