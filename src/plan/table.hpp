#pragma once
#include <cstdint>
#include <vector>

#include "gradwire/plan.hpp"

namespace gradwire {

inline constexpr double kMaxError = 1e150;                          ///< its square is finite
inline constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 53;  ///< sums up to this are exact as doubles

/// One candidate's index for each layer.
using Choice = std::vector<std::size_t>;

/// Sums over the layers, in their order.
struct Totals {
  std::uint64_t bytes = 0;
  double error = 0;
  double squared_error = 0;
};

[[nodiscard]] inline const Candidate& chosen(const Table& table, const Choice& choice, std::size_t layer) {
  return table.layers[layer].candidates[choice[layer]];
}
[[nodiscard]] Totals totals(const Table& table, const Choice& choice);
/// Each layer's reference.
[[nodiscard]] Choice reference_of(const Table& table);

/// The plan of this choice: layers and sums.
[[nodiscard]] Plan assemble(const Table& table, const Choice& choice);

}  // namespace gradwire
