#pragma once
#include <string>

#include "run.hpp"

namespace gradwire::tools::report {

/// The parts of the page, each HTML, in its order there. Where there is nothing to show they say why.
[[nodiscard]] std::string heading(const Run& run);
[[nodiscard]] std::string heat_map(const Run& run);       ///< what each layer had, over steps
[[nodiscard]] std::string budget_charts(const Run& run);  ///< error and bytes of the plans, and their limit
[[nodiscard]] std::string bytes_chart(const Run& run);    ///< bytes a step beside uniform and dense
[[nodiscard]] std::string share_bars(const Run& run);     ///< bytes of each layer in the last plan
[[nodiscard]] std::string curve_charts(const Run& run);
[[nodiscard]] std::string times_chart(const Run& run);
[[nodiscard]] std::string timelines(const Run& run);  ///< buckets of one step, to choose from
[[nodiscard]] std::string events_table(const Run& run);
[[nodiscard]] std::string plans_table(const Run& run);
[[nodiscard]] std::string layers_table(const Run& run);  ///< of the last plan

/// For below what is made of all plans; empty where the log has them all.
[[nodiscard]] std::string plans_left_out_note(const Run& run);

}  // namespace gradwire::tools::report
