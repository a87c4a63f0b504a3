#pragma once
#include <string_view>

#include "gradwire/plan.hpp"

namespace gradwire {

/// Sets the plan's sums to those of its layers. Throws Errc::invalid_argument naming the layer: no layers, one without
/// name or spec, a name given twice, an error that is_error() does not accept, bytes that sum to more than 2^53.
void sum_layers(Plan& plan);

/// Throws Errc::invalid_argument where `given`, the plan's `key`, is further from its layers' sum than rounding takes
/// it: a share of the sum.
void check_sum(std::string_view key, double given, double sum, double rounding);
inline constexpr double kSumRounding = 1e-9;  ///< of sums of errors; those of bytes are exact

/// The plan with the sums of its layers, for one that has been made in memory: a sum of 0 was not given. Throws what
/// sum_layers() and check_sum() throw, Errc::invalid_argument for a budget, bound or time that is NaN, infinite or
/// negative.
[[nodiscard]] Plan complete(Plan plan);

}  // namespace gradwire
