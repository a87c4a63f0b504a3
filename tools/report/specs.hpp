#pragma once
#include <array>
#include <string>
#include <string_view>

namespace gradwire::tools::report {

/// What sort of compressor a spec names: its colour is "f0", "f1", ... in this order.
enum class Family : unsigned char { floats, quantised, block_floats, sparse, low_rank, other };
inline constexpr std::array<std::string_view, 6> kFamilyNames{
    "floats as they are", "quantised", "block floating point", "sparse", "low rank", "other"};

/// By the name alone, so also for specs that this build would not run.
[[nodiscard]] Family family_of(std::string_view spec);
/// As short as it can be told apart in a cell: "q4", "topk(0.01)", "powersgd(4)", "rotate(q2)", "topk(0.01)|q4".
[[nodiscard]] std::string brief(std::string_view spec);

}  // namespace gradwire::tools::report
