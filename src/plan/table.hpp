#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "gradwire/plan.hpp"

namespace gradwire {

/// Errors are 0 or in between: their squares, sums and quotients are then finite and not 0.
inline constexpr double kLeastError = 1e-120;
inline constexpr double kMaxError = 1e120;
inline constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 53;  ///< sums up to this are exact as doubles

inline constexpr double kLeastUs = 1e-6;  ///< of a candidate's time, where it is known
inline constexpr double kMaxUs = 1e15;    ///< of a candidate's time, and of when a gradient is ready

[[nodiscard]] inline bool is_error(double error) { return error == 0 || (error >= kLeastError && error <= kMaxError); }

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
/// Of all layers' elements as f32.
[[nodiscard]] double dense_bytes(const Table& table);

/// The compressor of a candidate's spec; nothing where it is none, as in tables made by hand to compare policies.
[[nodiscard]] std::optional<Compressor> find_compressor(std::string_view spec);
/// Index of the layer's candidate with this spec, or, where none is spelt so, of the same compressor.
[[nodiscard]] std::optional<std::size_t> find_candidate(const TableLayer& layer, std::string_view spec);
/// Indices of a layer's candidates.
struct CandidatePair {
  std::size_t first;
  std::size_t second;
};
/// Each layer's candidates of these two specs; its reference, twice, where it has neither. Throws
/// Errc::invalid_argument, naming the policy, for a layer that has but one of them, and where no layer has them.
[[nodiscard]] std::vector<CandidatePair> candidate_pairs(const Table& table, std::string_view first,
                                                         std::string_view second, std::string_view policy);
/// Throws Errc::invalid_argument, naming the policy, where no layer has a candidate with this spec.
void require_candidate(const Table& table, std::string_view spec, std::string_view policy);

/// The plan of this choice: layers and sums.
[[nodiscard]] Plan assemble(const Table& table, const Choice& choice);

}  // namespace gradwire
